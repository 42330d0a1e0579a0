{#- Point qmail's double bounces at the sink, which swallows them already: see mailbox.sls. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .mailbox

double bounces go to this local part:
  qmail_control.managed:
    - name: doublebounceto
    - value: {{ (settings.local or "") | json }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - require:
      - sls: qmail-doublebounce.mailbox

{% if settings.mode == "sink" %}
double bounces go to this host:
  qmail_control.managed:
    - name: doublebouncehost
    - value: {{ settings.host | json }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - require:
      - sls: qmail-doublebounce.mailbox
{% endif %}
