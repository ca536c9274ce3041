// Command soak runs a hub and many spokes for a long time, over a real transport on the loopback interface,
// and checks every event that any of them receives.
//
// Spokes subscribe and unsubscribe, leave, lose their connections and return. Some publish. Some do not
// read until they are cut off. Each publisher numbers its events. While a connection is open, each
// subscription must receive them in order, without gaps or duplicates, from the sender that the event
// names, and only on its topics. In the end, everything published must have arrived, and the process must
// use no more resources than before. Otherwise the command exits with status 1.
//
// With -connects it instead makes that many connections to one hub, and then checks that they have left
// nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"irohub/internal/transports"
)

func main() {
	c := config{out: os.Stdout}
	flag.StringVar(&c.transport, "transport", "iroh", "one of `"+strings.Join(transports.Names(), "|")+"`")
	flag.DurationVar(&c.length, "for", 10*time.Minute, "how long")
	flag.IntVar(&c.spokes, "spokes", 200, "how many spokes")
	flag.IntVar(&c.topics, "topics", 50, "how many topics")
	flag.IntVar(&c.rate, "rate", 200, "events a second of the hub; each spoke that publishes has a twentieth")
	flag.DurationVar(&c.pace, "pace", 3*time.Second, "between changes of a spoke's subscriptions; its connections last ten times as long")
	count := flag.Int("connects", 0, "make so many connections, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *count > 0 {
		err = connects(ctx, c, *count)
	} else {
		err = run(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
