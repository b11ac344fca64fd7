"""What stage `measure` assembles from the other rooms."""
