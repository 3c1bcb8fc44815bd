package main

// monotonic belongs to a notification that Windows has no receiver for.
func monotonic() string { return "" }
