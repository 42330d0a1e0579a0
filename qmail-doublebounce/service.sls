{#- Have qmail-send read its control files: it reads them when it starts, and at no other time. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .control

qmail-send knows where double bounces go:
  qmail_service.running:
    - name: qmail-send
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - queue: {{ settings.qmail.queue | json }}
    - supervisor: {{ settings.service.provider | json }}
    - service: {{ settings.service.name | json }}
    - timeout: {{ settings.service.timeout }}
    - watch:
      - sls: qmail-doublebounce.control
