{#- Make the address a mailbox that swallows what it receives. In mode discard qmail-send needs none. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .settings

the sink swallows mail:
{% if settings.mode == "sink" %}
  qmail_mailbox.sink:
    - name: {{ (settings.address or "") | json }}
    - instruction: {{ settings.instruction | json }}
    - mailbox: {{ settings.mailbox }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
{% else %}
  test.nop:
    - name: there is no sink in mode discard
{% endif %}
    - require:
      - sls: qmail-doublebounce.settings
