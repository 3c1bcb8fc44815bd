// Package windows drives Windows programs under wine: both sides of the
// Kill/KillSuccess protocol, ours and unmodified ones in C++, and the upgrader
// itself. Whatever a server does wrong, its memory is kept, nobody writes beside
// it, and a port that the upgrader holds is never refused.
package windows
