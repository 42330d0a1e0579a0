{#- Make the address a mailbox that swallows what it receives. In mode discard qmail-send needs none. -#}
{%- from "qmail-doublebounce/map.jinja" import settings with context %}

{%- if settings.mode == "sink" %}
the sink swallows mail:
  qmail_mailbox.sink:
    - name: {{ settings.address | json }}
    - instruction: {{ settings.instruction | json }}
    - mailbox: {{ settings.mailbox }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
{%- else %}
the sink is not needed:
  test.nop
{%- endif %}
