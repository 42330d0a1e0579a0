{#- Double bounces vanish in the sink: first the mailbox swallows, then the control files point at it, then qmail-send
    starts anew to read them, the sinks of before are given back, and a probe proves it where pillar says so. -#}
{% from "qmail-doublebounce/map.jinja" import settings with context %}
include:
  - .mailbox
  - .control
  - .service
  - .former
{% if settings.verify %}
  - .verify
{% endif %}
