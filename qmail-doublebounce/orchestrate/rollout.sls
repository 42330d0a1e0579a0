{#- On the master: salt-run state.orchestrate qmail-doublebounce.orchestrate.rollout. What to roll out, and to whom, is in
    the master's pillar, or in pillar= of the command. Its own dry run is the setting test: with test=True, Salt runs no
    runner at all. -#}
{% set settings = (pillar.get("qmail_doublebounce") or {}).get("rollout") or {} %}

the formula is rolled out:
  salt.runner:
    - name: qmail_doublebounce.rollout
{% for name, value in settings.items() %}
    - {{ name }}: {{ value | json }}
{% endfor %}
