package self

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// joined gives the two sides of a link without tableflip: the old side's
// conversation, and what the new side inherits.
func joined(t *testing.T, b Bundle, pass func(sendOf) error) (last <-chan frame, in *Inheritance) {
	t.Helper()
	old, heir := pair(t)
	said := make(chan frame, 1)
	go func() { said <- old.converse(b, pass) }()
	got, version, err := heir.receiveBundle()
	if err != nil || version != linkVersion {
		t.Fatal(version, err)
	}
	return said, &Inheritance{Bundle: got, way: &linked{link: heir, version: version}}
}

// The shares of a bundle reach those that they are of, so do their parcels, and
// one that fails takes all with it.
func TestGroupLands(t *testing.T) {
	state := json.RawMessage(`{"group":"own","shares":{"a":"for a","b":"for b"}}`)
	file := func(text string) *os.File {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	for _, fails := range []string{"", "a", "before", "parcel"} {
		t.Run("fails:"+fails, func(t *testing.T) {
			sent := file("parcel")
			last, in := joined(t, Bundle{State: state, Files: []File{{"lock", file("own")}, {"a/lane", file("a")}, {"b/lane", file("b")}}}, func(send sendOf) error {
				return send("b", Parcel{State: json.RawMessage(`"to b"`), Sockets: []int{int(sent.Fd())}})
			})
			g, err := NewGroup(&Self{inherited: in})
			if err != nil {
				t.Fatal(err)
			}
			own, names, whole := g.Inherited()
			if string(own) != `"own"` || len(names) != 2 || whole.File("lock") == nil || whole.File("a/lane") != nil {
				t.Errorf("the group has %s of %v", own, names)
			}
			if fails == "before" {
				g.Share("a").Inherited().Failed("no")
			}
			var got sync.Map
			var all sync.WaitGroup
			for _, name := range names {
				share := g.Share(name).Inherited()
				if string(share.State) != `"for `+name+`"` || share.File("lane") == nil || share.File("lane") != nil {
					t.Errorf("the share of %s is %s", name, share.State)
				}
				all.Go(func() {
					if fails == "a" && name == "a" {
						share.Failed("no")
						return
					}
					_, err := share.Ready(context.Background(), func(p Parcel) error {
						if name != "b" || string(p.State) != `"to b"` || len(p.Sockets) != 1 {
							t.Errorf("%s was sent %s and %v", name, p.State, p.Sockets)
						}
						closeSockets(p.Sockets)
						if fails == "parcel" {
							return errors.New("no")
						}
						got.Store("parcel", true)
						return errors.New("enough") // there is no tableflip to go on with
					})
					got.Store(name, fmt.Sprint(err))
				})
			}
			said := <-last
			all.Wait()
			if said.What != frameFailed || said.Why == "" {
				t.Errorf("the old side heard %+v", said)
			}
			for _, name := range names {
				if fails == "a" && name == "a" {
					continue
				}
				if text, _ := got.Load(name); text == nil || text == "<nil>" {
					t.Errorf("%s was told %v", name, text)
				}
			}
			if _, came := got.Load("parcel"); came != (fails == "") {
				t.Errorf("a parcel came: %v", came)
			}
		})
	}
}

// The upgrade of a group begins when all could be handed over, and not at all
// when one does not come along.
func TestGroupDeclines(t *testing.T) {
	g, err := NewGroup(&Self{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := g.Share("a"), g.Share("b")
	if !a.Gathered(nil) {
		t.Error("without an attempt there is somebody to wait for")
	}
	g.Begin(GroupConfig{}, []string{"a", "b"})
	again := make(chan struct{})
	if a.Gathered(func() { close(again) }) {
		t.Error("b is not waited for")
	}
	for range 2 {
		if !b.Gathered(nil) {
			t.Error("nobody is to be waited for")
		}
	}
	<-again
	done := make(chan error)
	go func() {
		_, err := a.Upgrade(context.Background(), Bundle{}, nil)
		done <- err
	}()
	g.Decline("b", errors.New("it is down"))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "b does not come along: it is down") {
		t.Error(err)
	}
	if !a.Gathered(nil) {
		t.Error("somebody is waited for who will not come")
	}
	// Who is told to stop declines.
	g.Begin(GroupConfig{}, []string{"a", "b"})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := a.Upgrade(ctx, Bundle{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
