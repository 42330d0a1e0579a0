{#- Double bounces vanish in the sink: first the mailbox swallows, then the control files point at it, then qmail-send
    starts anew to read them, the sinks of before are given back, and a probe proves it where pillar says so. The two
    states here are the beginning and the end of that, for those who name the whole formula in their requisites. -#}
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
