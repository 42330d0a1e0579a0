{#- Undo what this formula did, and nothing more, in reverse: the control files, qmail-send, then the mailbox. Of the
    settings, only those that say where qmail is and what runs it are used: no address is needed to undo. If qmail is
    gone, the files are put back all the same, for whatever starts qmail-send later. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}

the settings are right:
  qmail_doublebounce.configured:
    - problems: {{ settings.problems | select("match", "qmail_doublebounce:(qmail|service)")
                   | reject("in", settings.absent) | list | json }}
    - home: {{ settings.qmail.home | json }}
    - queue: {{ settings.qmail.queue | json }}
    - supervisor: {{ settings.service.provider | json }}
    - service: {{ settings.service.name | json }}
    - undo: true

{% for name in ("doublebounceto", "doublebouncehost") %}
{{ name }} is as it was:
  qmail_control.restored:
    - name: {{ name }}
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - require:
      - qmail_doublebounce: the settings are right
{% endfor %}

qmail-send knows where double bounces went before:
  qmail_service.running:
    - name: qmail-send
    - home: {{ settings.qmail.home | json }}
    - control: {{ settings.qmail.control | json }}
    - queue: {{ settings.qmail.queue | json }}
    - supervisor: {{ settings.service.provider | json }}
    - service: {{ settings.service.name | json }}
    - timeout: {{ settings.service.timeout }}
    - undo: true
    - watch:
      - qmail_control: doublebounceto is as it was
      - qmail_control: doublebouncehost is as it was

the mailbox is as it was:
  qmail_mailbox.restored:
    - home: {{ settings.qmail.home | json }}
    - require:
      - qmail_service: qmail-send knows where double bounces went before

{% if settings.absent %}
qmail is where pillar says:
  qmail_doublebounce.configured:
    - problems: {{ settings.absent | json }}
{% endif %}
