{#- Stop here if pillar is wrong, or does not match this machine, and report everything that is wrong with it. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
the settings are right:
  qmail_doublebounce.configured:
    - problems: {{ settings.problems | json }}
    - home: {{ settings.qmail.home | json }}
    - queue: {{ settings.qmail.queue | json }}
    - supervisor: {{ settings.service.provider | json }}
    - service: {{ settings.service.name | json }}
    - address: {{ (settings.address if settings.mode == "sink" else none) | json }}
