package upgrader

import (
	"context"
	"io"

	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/winevents"
)

// QuitByEvents asks with the named events of the Kill/KillSuccess protocol:
// Kill, whose confirmation is waited for, where a successor takes its place,
// and Stop at a full stop. A process that does not confirm in time is treated as
// the policy of the AskConfig says. The events of each server are held from
// before it runs: no signal between it and an unmodified peer is lost.
func QuitByEvents(config winevents.AskConfig) Quit { return events{config} }

type events struct{ config winevents.AskConfig }

// identify is main as winevents know it: its handle keeps the id from being
// given away, so what has the id and is alive is the same.
func (events) identify(main process.Identity) (winevents.Identity, error) {
	id, err := winevents.IdentityOf(main.Pid)
	if err == nil && !main.Alive() { // what was looked at is another one
		err = process.ErrGone
	}
	return id, err
}

// Hold holds its events.
func (e events) Hold(main process.Identity) (io.Closer, error) {
	id, err := e.identify(main)
	if err != nil {
		return nil, err
	}
	return winevents.Hold(id, e.config.Namespaces)
}

// Ask sets Kill or Stop.
func (e events) Ask(ctx context.Context, main process.Identity, reason QuitReason) (Answer, error) {
	id, err := e.identify(main)
	if err != nil {
		return AnswerNone, err
	}
	target := winevents.Target{Identity: id}
	if reason == QuitStop {
		return AnswerNone, winevents.Send(ctx, target, winevents.Stop, e.config)
	}
	answer, err := winevents.Ask(ctx, target, e.config)
	if err != nil {
		return AnswerNone, err
	}
	defer answer.Close() // its answer is known, whatever the handles say
	switch answer.Result {
	case winevents.Confirmed:
		return AnswerConfirmed, nil
	case winevents.Proceeded:
		return AnswerProceed, nil
	}
	return AnswerNone, nil // it is gone, or was none of ours any more
}
