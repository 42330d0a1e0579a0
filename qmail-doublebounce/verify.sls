{#- Whenever a run has changed something, prove with a probe that double bounces end as they should. It comes last: a sink
    may forward to a mailbox that the run gives back. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .former

double bounces end as they are meant to:
  qmail_doublebounce.verified:
    - mode: {{ settings.mode }}
    - address: {{ settings.address | json }}
    - instruction: {{ settings.instruction | json }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - queue: {{ settings.qmail.queue | json }}
    - log: {{ settings.qmail.log | json }}
    - timeout: {{ settings.verify_timeout | json }}
    - watch:
      - sls: qmail-doublebounce.mailbox
      - sls: qmail-doublebounce.control
      - sls: qmail-doublebounce.service
      - sls: qmail-doublebounce.former
