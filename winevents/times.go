package winevents

import "time"

// The times of the documents.
const (
	DefaultConfirm  = 15 * time.Second
	DefaultServices = 10 * time.Second
	DefaultHold     = 50 * time.Millisecond
	DefaultPoll     = 10 * time.Millisecond
	DefaultLinger   = 10 * time.Second
)

// Times are the protocol's durations. In each, zero means the documents' value
// and a negative one means none at all.
type Times struct {
	Confirm  time.Duration // asking: how long the confirmation may take (15 s) before the policy decides
	Services time.Duration // asked: how long the services may take to stop (10 s)
	Hold     time.Duration // both: how long a handle stays open at least after its event was set (50 ms)
	Poll     time.Duration // asking: how often the saved marker is read again after a confirmation that it did not bear out (10 ms, never none)
	Linger   time.Duration // asked: how long it stays after it confirmed (10 s), so that what it shared outlives its successor's start
}

// withDefaults puts every duration in its place: none is negative any more.
func (t Times) withDefaults() Times {
	t.Confirm = orDefault(t.Confirm, DefaultConfirm)
	t.Services = orDefault(t.Services, DefaultServices)
	t.Hold = orDefault(t.Hold, DefaultHold)
	t.Linger = orDefault(t.Linger, DefaultLinger)
	if t.Poll <= 0 {
		t.Poll = DefaultPoll
	}
	return t
}

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return max(d, 0)
}
