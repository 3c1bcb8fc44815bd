package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// The ways in which a version fails after its commit, with and without a
// predecessor that is kept warm.
const (
	crashCold  = "crashes"
	crashWarm  = "crashes, --warm"
	healthCold = "fails its health check"
	healthWarm = "fails its health check, --warm"
)

func deployments() []string { return []string{crashCold, crashWarm, healthCold, healthWarm} }

// deployment is what goes wrong and how it is made good.
type deployment struct {
	name   string
	flags  []string // of the upgrader
	bad    string   // flags of the version that fails
	phase  string   // of the verdict: from when the failure was noticed until the predecessor's version serves
	server *server
}

// measureDeploy deploys versions that fail under load, and takes the phases
// from the verdicts.
func measureDeploy(b *bench) error {
	warm := []string{"-warm-up", b.Amounts.WarmUp.String()}
	life := b.Amounts.WarmUp + 500*time.Millisecond // of the failing version, after its start
	crash, hang := fmt.Sprintf("-exit-after %v -exit-code 5", life), fmt.Sprintf("-hang-after %v", life)
	alone := b.bareGuest(warm...)
	all := []*deployment{
		{name: crashCold, bad: crash, phase: "revert"},
		{name: crashWarm, bad: crash, phase: "steer-back", flags: []string{"--warm"}},
		{name: healthCold, bad: hang, phase: "revert"},
		{name: healthWarm, bad: hang, phase: "steer-back", flags: []string{"--warm"}},
	}
	for _, d := range all {
		r := b.listening(append([]string{"--probation", "10m", "--health", "http=http://ADDRESS/", "--health-timeout", "500ms"}, d.flags...),
			append(warm, "-flags-file", "DIR/flags")...)
		r.files = map[string]string{"flags": ""}
		var err error
		if d.server, err = b.serve(r); err != nil {
			return err
		}
	}
	for range b.Amounts.Deploys {
		for _, d := range all {
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			if err := b.deploy(d, alone); err != nil {
				return fmt.Errorf("%s: %w\n%s", d.name, err, d.server.output())
			}
		}
	}
	for _, d := range all {
		if err := d.server.stop(); err != nil {
			return err
		}
	}
	return nil
}

// deploy has a bad version take over under load, and waits until it was rolled
// back. What the server's own start takes under that load is measured first.
func (b *bench) deploy(d *deployment, alone recipe) error {
	l, err := load.Start(load.Config{Address: d.server.address, Clients: 16, PerConnection: 1, Rate: b.Amounts.Rate, Timeout: patience})
	if err != nil {
		return err
	}
	defer l.Stop()
	ctx, cancel := b.within()
	defer cancel()
	if err := l.AwaitMore(ctx, int(b.Amounts.Rate*b.Amounts.Lead.Seconds())); err != nil {
		return err
	}
	at := "deploy/" + d.name
	if err := b.startAndStop(at, alone); err != nil {
		return err
	}
	flags := filepath.Join(filepath.Dir(d.server.log), "flags")
	if err := os.WriteFile(flags, []byte(d.bad), 0o644); err != nil {
		return err
	}
	before := rollbacks(d.server)
	var v verdict
	err = b.tell(ctx, d.server, &v, "restart", "--json")
	if err == nil && v.Verdict != "committed" {
		err = fmt.Errorf("restart: %+v", v)
	}
	if err == nil {
		err = os.WriteFile(flags, nil, 0o644)
	}
	// The log is looked at: a command asked again and again would take the processor from what is measured.
	for err == nil && rollbacks(d.server) == before {
		pause(5 * time.Millisecond)
		err = ctx.Err()
	}
	var st status
	if err == nil {
		err = b.tell(ctx, d.server, &st, "status", "--json")
	}
	if err != nil {
		return err
	}
	if len(st.Verdicts) > 0 {
		v = st.Verdicts[len(st.Verdicts)-1]
	}
	var took time.Duration
	for _, p := range v.Phases {
		if p.Name == d.phase {
			took += p.Duration
		}
	}
	if v.Verdict != "rolled-back" || took == 0 {
		return fmt.Errorf("the verdict is %+v, want rolled-back with the phase %s", v, d.phase)
	}
	b.samples.add(at+"/back", millis(took))
	if err := l.AwaitMore(ctx, int(b.Amounts.Rate*b.Amounts.Tail.Seconds())); err != nil {
		return err
	}
	r := l.Stop()
	b.samples.add(at+"/requests", float64(r.Requests))
	b.samples.add(at+"/failed", float64(r.Failed()))
	b.samples.add(at+"/refused", float64(r.Outcomes[load.Refused]))
	b.samples.add(at+"/gap", millis(r.LongestGap))
	return nil
}

// rollbacks counts what the upgrader has logged of them; a log that cannot be read has none more.
func rollbacks(s *server) int {
	text, _ := os.ReadFile(s.log)
	return bytes.Count(text, []byte("\trolled-back\t"))
}

// verdict and status are what is read of the upgrader's answers.
type verdict struct {
	Verdict string
	Reason  string
	Phases  []struct {
		Name     string        `json:"name"`
		Duration time.Duration `json:"duration_ns"`
	}
}

type status struct{ Verdicts []verdict }

// tell runs a command against an upgrader, and reads its answer.
func (b *bench) tell(ctx context.Context, s *server, to any, command string, more ...string) error {
	c := exec.CommandContext(ctx, b.upgrader(), append([]string{command, "--state-dir", s.state}, more...)...)
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return json.Unmarshal(out, to)
}
