package launch

// runsHeld: a binary is executed from its descriptor.
const runsHeld = true
