{#- Stop here where pillar is not right, and say all that is wrong with it. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
the settings are right:
  qmail_doublebounce.configured:
    - problems: {{ settings.problems | json }}
