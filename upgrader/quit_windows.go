package upgrader

import (
	"context"

	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/winevents"
)

// QuitByEvents asks with the named events of the Kill/KillSuccess protocol:
// Kill, whose confirmation is waited for, where a successor takes its place,
// and Stop at a full stop. A process that does not confirm is waited for: its
// successor starts when it is gone.
func QuitByEvents(times winevents.Times) Quit {
	config := winevents.AskConfig{Times: times, AtDeadline: winevents.DeadlineRefuse}
	return func(ctx context.Context, main process.Identity, reason QuitReason) (bool, error) {
		id, err := winevents.IdentityOf(main.Pid)
		if err != nil {
			return false, err
		}
		if !main.Alive() { // it is ours, and what was looked at is another one
			return false, process.ErrGone
		}
		target := winevents.Target{Identity: id}
		if reason == QuitStop {
			return false, winevents.Send(ctx, target, winevents.Stop, config)
		}
		answer, err := winevents.Ask(ctx, target, config)
		if err != nil {
			return false, err
		}
		return answer.Result == winevents.Confirmed, answer.Close()
	}
}
