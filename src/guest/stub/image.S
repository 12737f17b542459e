// The stub's text as bytes of the sentry.
  .section .rodata
  .globl fluyt_guest_stub_begin
  .globl fluyt_guest_stub_end
  .balign 16
fluyt_guest_stub_begin:
  .incbin STUB_IMAGE
fluyt_guest_stub_end:
  .section .note.GNU-stack, "", @progbits
