{#- Double bounces vanish in the sink: first the mailbox swallows them, then the control files point at it, then
    qmail-send restarts to read them, former sinks are given back, and if pillar asks for it, a probe proves the result.
    The two states here are the beginning and the end of that, for requisites that name the whole formula. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .settings
  - .mailbox
  - .control
  - .service
  - .former
{% if settings.verify %}
  - .verify
{% endif %}

double bounces are taken care of from here on:
  test.nop:
    - require_in:
      - sls: qmail-doublebounce.settings

double bounces are taken care of:
  qmail_doublebounce.applied:
    - watch:
      - sls: qmail-doublebounce.settings
      - sls: qmail-doublebounce.mailbox
      - sls: qmail-doublebounce.control
      - sls: qmail-doublebounce.service
      - sls: qmail-doublebounce.former
{% if settings.verify %}
      - sls: qmail-doublebounce.verify
{% endif %}
