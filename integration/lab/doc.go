// Package lab is where tests, benchmark and survey run what they look at:
// namespaces and a container engine of their own. Nothing on the machine is
// touched, and what was started ends with who started it.
package lab
