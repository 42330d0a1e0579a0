{#- Double bounces vanish in the sink: first the mailbox swallows, then the control files point at it, then qmail-send
    starts anew to read them. -#}
include:
  - .mailbox
  - .control
  - .service
