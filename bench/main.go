package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options size a run.
type options struct {
	rounds     int           // of each rival, per number of connections
	length     time.Duration // of one round
	starts     int
	tenants    int // hot ones
	connectors int // in the big database; the small one has a hundredth
	sidecars   int // that hear of a change
	changes    int // that they hear of
	only       []string
	profile    string // file
}

func (o options) wants(stage string) bool {
	if stage == "profile" && o.profile == "" {
		return false
	}
	return len(o.only) == 0 || slices.Contains(o.only, stage)
}

func main() {
	log.SetFlags(0)
	if slices.Contains(os.Args[1:], "-generate") {
		if err := generate(os.Stdin, os.Stdout); err != nil {
			log.Fatal(err)
		}
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 21, "rounds of each rival under each load")
	flag.DurationVar(&o.length, "length", 500*time.Millisecond, "length of a round")
	flag.IntVar(&o.starts, "starts", 15, "starts of each rival")
	flag.IntVar(&o.tenants, "tenants", 10_000, "hot tenants, of two connectors each")
	flag.IntVar(&o.connectors, "connectors", 1_000_000, "connectors of the big database, ten to a tenant; the small one has a hundredth")
	flag.IntVar(&o.sidecars, "sidecars", 100, "sidecars that hear of a change")
	flag.IntVar(&o.changes, "changes", 20, "changes that they hear of")
	quick := flag.Bool("quick", false, "a small run, to see that everything works: its figures are not results")
	only := flag.String("only", "", "comma-separated stages instead of all: "+strings.Join(stageNames(), ", "))
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of hits, for go tool pprof")
	out := flag.String("out", "", "file for the results; without it bench/RESULTS.md, or none for a run that is quick or not whole")
	flag.Parse()
	if *quick {
		o.rounds, o.length, o.starts, o.tenants, o.connectors, o.sidecars, o.changes = 3, 200*time.Millisecond, 3, 200, 100_000, 20, 5
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if *out == "" && !*quick && *only == "" {
		*out = "bench/RESULTS.md"
	}
	if err := measure(o, *out); err != nil {
		log.Fatal(err)
	}
}

// stages run in this order: what is timed comes before what fills the machine.
var stages = []struct {
	name string
	run  func(w *world, r *report, o options)
}{
	{"start", (*world).starts},
	{"hit", (*world).hits},
	{"allocations", (*world).allocations},
	{"roundtrips", (*world).roundTrips},
	{"stampede", (*world).stampede},
	{"invalidation", (*world).invalidation},
	{"memory", (*world).memory},
	{"scale", (*world).scale},
	{"profile", (*world).profile},
}

func stageNames() []string {
	var names []string
	for _, s := range stages {
		names = append(names, s.name)
	}
	return names
}

func measure(o options, out string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	r := &report{}
	var head string
	began := time.Now()
	say := func(what string) { fmt.Fprintf(os.Stderr, "%4.0f s  %s\n", time.Since(began).Seconds(), what) }
	err := run(ctx, func(h *host) {
		say("build, start servers, make " + fmt.Sprint(o.tenants) + " tenants")
		w := newWorld(h)
		h.seed(w.db.superuser, o.tenants, 2)
		w.seedSecrets(2 * o.tenants)
		control := w.sidecar(0, w.config(w.servers(w.db.admin), w.writer), "admin")
		control.ready()
		head = w.machine(time.Now())
		for _, s := range stages {
			if o.wants(s.name) {
				say(s.name)
				err := h.part(func() { s.run(w, r, o) })
				h.must(ctx.Err()) // told to stop
				if err != nil {
					say(s.name + " failed: " + err.Error())
					r.find(false, s.name, "", "not measured: %s", strings.SplitN(err.Error(), "\n", 2)[0])
				}
			}
		}
	})
	if err != nil {
		return err
	}
	say("done")
	text := r.markdown(head)
	fmt.Print(text)
	if out == "" {
		return nil
	}
	return os.WriteFile(out, []byte(text), 0o644)
}
