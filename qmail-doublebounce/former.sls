{#- Give back the mailboxes that an earlier pillar made sinks: whoever gets such an address next would lose all mail.
    This waits until qmail-send uses the new address: before, double bounces would go to the mailbox given back. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .service

no other mailbox is a sink:
  qmail_mailbox.given_back:
    - but: {{ (settings.address if settings.mode == "sink" else none) | json }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - queue: {{ settings.qmail.queue | json }}
    - supervisor: {{ settings.service.provider | json }}
    - service: {{ settings.service.name | json }}
    - require:
      - sls: qmail-doublebounce.service
