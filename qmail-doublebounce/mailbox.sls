{#- Make the address a mailbox that handles double bounces as the instruction says: by default it swallows them. In mode
    discard, no mailbox is needed. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .settings

{% if settings.mode == "sink" %}
the sink is ready:
  qmail_mailbox.sink:
    - name: {{ (settings.address or "") | json }}
    - instruction: {{ settings.instruction | json }}
    - mailbox: {{ settings.mailbox }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - require:
      - sls: qmail-doublebounce.settings
{% else %}
no sink is needed:
  test.nop:
    - name: qmail drops double bounces itself
    - require:
      - sls: qmail-doublebounce.settings
{% endif %}
