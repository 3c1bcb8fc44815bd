package listener

// separate: every lane is a socket of its own.
const separate = true
