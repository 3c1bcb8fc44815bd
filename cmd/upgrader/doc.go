// Command upgrader keeps a server's ports and its clients' connections up
// while the server's process is swapped. It parses flags, wires the packages
// together, logs, and turns signals into wishes; it decides nothing.
package main
