package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"irohub/internal/transports"
)

// In these tests, hubs, subs and pubs are processes. Each test runs over each transport.

func keyFile(t *testing.T) (path, node string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	p := start(t, "id", "-key", path)
	p.wantExit(0)
	node, _ = p.stdout.line(0)
	return path, node
}

func TestProcesses_BothDirectionsByNodeIDAndAddress(t *testing.T) {
	overEach(t, testProcessesBothDirectionsByNodeIDAndAddress)
}

func testProcessesBothDirectionsByNodeIDAndAddress(t *testing.T) {
	hubKey, hubID := keyFile(t)
	subKey, subID := keyFile(t)
	pubKey, pubID := keyFile(t)
	hub := startHub(t, "-key", hubKey, "-stdin")
	if hub.node != hubID {
		t.Fatalf("the hub is %s, its key %s", hub.node, hubID)
	}

	sub := startSub(t, "-key", subKey, "-n", "2", hub.addr, "file:*", "direct:"+subID)
	hub.write(`{"type":"file","id":"net/http","payload":{"size": 1}}`, `{"type":"direct","id":"`+subID+`"}`)
	sub.wantEvent(0, "file:net/http", `{"size":1}`)
	sub.wantEvent(1, "direct:"+subID, "")
	sub.wantExit(0)

	start(t, "pub", "-key", pubKey, hub.addr, "chat:room", `"<hello>"`).wantExit(0)
	hub.wantEvent(1, "chat:room", `"<hello>"`)
	if from := hub.event(1).From.String(); from != pubID {
		t.Errorf("the event is from %s, want %s", from, pubID)
	}
	hub.stop()
}

func TestProcesses_ByTicket(t *testing.T) {
	transports.Need(t, overIroh)
	hub := startHub(t)
	start(t, "pub", hub.ticket, "chat").wantExit(0)
	hub.wantEvent(1, "chat", "")
	start(t, "pub", hub.ticket+"x", "chat").wantExit(2, "neither NODEID@HOST:PORT nor a ticket")
	hub.stop()
}

func TestSub_CountIsExact(t *testing.T) { overEach(t, testSubCountIsExact) }

func testSubCountIsExact(t *testing.T) {
	hub := startHub(t, "-stdin")
	sub := startSub(t, "-n", "3", hub.addr, "n")
	for i := range 10 {
		hub.write(fmt.Sprintf(`{"type":"n","payload":%d}`, i))
	}
	sub.wantExit(0)
	if lines := sub.stdout.all(); len(lines) != 3 {
		t.Errorf("printed %q, want 3 lines", lines)
	}
	hub.stop()
}

func TestHub_ForwardsOnlyIfTold(t *testing.T) { overEach(t, testHubForwardsOnlyIfTold) }

func testHubForwardsOnlyIfTold(t *testing.T) {
	for _, forward := range []bool{false, true} {
		args := []string{"-stdin"}
		if forward {
			args = append(args, "-forward")
		}
		hub := startHub(t, args...)
		sub := startSub(t, hub.addr, "chat")
		start(t, "pub", hub.addr, "chat", "1").wantExit(0)
		hub.wantEvent(1, "chat", "1")
		hub.write(`{"type":"chat","payload":2}`) // after the spoke's event
		if first := string(sub.event(0).Payload); (first == "1") != forward {
			t.Errorf("forward %v: the first event is %s", forward, first)
		}
		hub.stop()
	}
}

func TestHub_AllowTurnsOthersAway(t *testing.T) { overEach(t, testHubAllowTurnsOthersAway) }

func testHubAllowTurnsOthersAway(t *testing.T) {
	key, id := keyFile(t)
	_, other := keyFile(t)
	hub := startHub(t, "-allow", id, "-allow", other)
	strangersKey, stranger := keyFile(t)
	start(t, "pub", "-key", strangersKey, hub.addr, "chat", "1").wantExit(1, "forbidden", "hub's lists do not admit")
	hub.wantSaid("node=" + stranger)
	hub.wantSaid("hub's lists do not admit")
	start(t, "sub", hub.addr, "chat").wantExit(1, "forbidden")
	start(t, "pub", "-key", key, hub.addr, "chat", "2").wantExit(0)
	hub.wantEvent(1, "chat", "2") // the first event has not come
	hub.stop()
}

func TestPub_TenThousandLinesArriveInOrder(t *testing.T) {
	overEach(t, testPubTenThousandLinesArriveInOrder)
}

func testPubTenThousandLinesArriveInOrder(t *testing.T) {
	const count = 10_000
	// The queue has room for all events, so the hub's output may be read slowly.
	hub := startHub(t, "-max-queue", "16777216")
	pub := start(t, "pub", hub.addr)
	for i := range count {
		pub.write(fmt.Sprintf(`{"type":"n","payload":%d}`, i))
	}
	pub.stdin.Close()
	pub.wantExit(0)
	for i := range count {
		hub.wantEvent(1+i, "n", fmt.Sprint(i))
	}
	hub.stop()
}

func TestPub_BadLineEndsItBehindTheGoodOnes(t *testing.T) {
	overEach(t, testPubBadLineEndsItBehindTheGoodOnes)
}

func testPubBadLineEndsItBehindTheGoodOnes(t *testing.T) {
	hub := startHub(t)
	for i, bad := range []string{"{", `{"type":"__subscribe"}`, `{"type":"n","paylod":1}`} {
		pub := start(t, "pub", hub.addr)
		pub.write(`{"type":"n"}`, `{"type":"n","payload":"good"}`, bad)
		pub.wantExit(2, "line 3: ")
		hub.wantEvent(2+2*i, "n", `"good"`)
	}
	hub.stop()
}

func TestHub_BadLineIsSkipped(t *testing.T) { overEach(t, testHubBadLineIsSkipped) }

func testHubBadLineIsSkipped(t *testing.T) {
	hub := startHub(t, "-stdin")
	sub := startSub(t, "-n", "1", hub.addr, "n")
	hub.write("{", `{"type":"__ack"}`, `{"type":"n"}`)
	sub.wantExit(0)
	hub.wantSaid("line 1: not JSON")
	hub.wantSaid("line 2: ")
	hub.stop()
}

func TestHub_ShutdownFlushes(t *testing.T) { overEach(t, testHubShutdownFlushes) }

func testHubShutdownFlushes(t *testing.T) {
	const count = 2000
	hub := startHub(t, "-stdin", "-forward", "-max-queue", "16777216")
	sub := startSub(t, "-max-queue", "16777216", hub.addr, "n")
	for i := range count {
		hub.write(fmt.Sprintf(`{"type":"n","payload":%d}`, i))
	}
	hub.stdin.Close()
	hub.wantSaid("standard input has ended") // all events are published; they may not have arrived yet
	hub.stop()
	sub.wantSaid("msg=disconnected")
	sub.signal(os.Interrupt)
	sub.wantExit(0)
	lines := sub.stdout.all()
	for i, line := range lines {
		if want := fmt.Sprintf(`{"type":"n","payload":%d}`, i); line != want {
			t.Fatalf("line %d is %s, want %s", i, line, want)
		}
	}
	if len(lines) != count {
		t.Errorf("%d of %d events arrived", len(lines), count)
	}
}

func TestSub_InterruptedBeforeItsCount(t *testing.T) { overEach(t, testSubInterruptedBeforeItsCount) }

func testSubInterruptedBeforeItsCount(t *testing.T) {
	hub := startHub(t, "-stdin")
	sub := startSub(t, "-n", "2", hub.addr, "n")
	hub.write(`{"type":"n"}`)
	sub.wantEvent(0, "n", "")
	sub.signal(syscall.SIGTERM)
	sub.wantExit(1, "interrupted after 1 of 2 events")
	hub.stop()
}

func TestSub_ComesBackToANewHub(t *testing.T) { overEach(t, testSubComesBackToANewHub) }

func testSubComesBackToANewHub(t *testing.T) {
	key, _ := keyFile(t)
	hub := startHub(t, "-key", key, "-addr", transports.OwnLoopback())
	_, addr, _ := strings.Cut(hub.addr, "@")
	sub := startSub(t, "-n", "1", hub.addr, "n")
	hub.stop()
	sub.wantSaid("msg=disconnected")
	hub = start(t, "hub", "-key", key, "-addr", addr, "-stdin").ready()
	sub.wantSaid("msg=reconnected")
	hub.write(`{"type":"n"}`)
	sub.wantExit(0)
	hub.stop()
}

func TestPub_HubGoesAway(t *testing.T) { overEach(t, testPubHubGoesAway) }

func testPubHubGoesAway(t *testing.T) {
	hub := startHub(t)
	pub := start(t, "pub", hub.addr)
	pub.write(`{"type":"n","payload":1}`)
	hub.wantEvent(1, "n", "1")
	hub.stop()
	pub.write(`{"type":"n","payload":2}`)
	pub.stdin.Close()
	pub.wantExit(1, "shutting down")
}

func TestPub_Interrupted(t *testing.T) { overEach(t, testPubInterrupted) }

func testPubInterrupted(t *testing.T) {
	hub := startHub(t)
	pub := start(t, "pub", hub.addr)
	pub.write(`{"type":"n","payload":1}`)
	hub.wantEvent(1, "n", "1")
	pub.signal(os.Interrupt)
	pub.wantExit(1, "interrupted")
	hub.stop()
}

func TestUnreachableHub(t *testing.T) { overEach(t, testUnreachableHub) }

func testUnreachableHub(t *testing.T) {
	hub := startHub(t)
	hub.stop()
	start(t, "pub", "-timeout", "500ms", hub.addr, "n").wantExit(1, "unreachable")
	start(t, "sub", "-timeout", "500ms", hub.addr, "n").wantExit(1, "unreachable")
}

func TestHub_WrongAddr(t *testing.T) { overEach(t, testHubWrongAddr) }

func testHubWrongAddr(t *testing.T) {
	start(t, "hub", "-addr", "127.0.0.1").wantExit(2, "--addr")
	start(t, "hub", "-addr", "nowhere.invalid:0").wantExit(2, "--addr")
	hub := startHub(t)
	_, addr, _ := strings.Cut(hub.addr, "@")
	start(t, "hub", "-addr", addr).wantExit(1, "in use")
	hub.stop()
}

func TestWrongNodeID(t *testing.T) { overEach(t, testWrongNodeID) }

func testWrongNodeID(t *testing.T) {
	hub := startHub(t)
	_, other := keyFile(t)
	_, addr, _ := strings.Cut(hub.addr, "@")
	start(t, "pub", other+"@"+addr, "n").wantExit(1, "another node answers")
	if transportOf(t) == overTLS { // iroh's library does not say so
		hub.wantSaid("dialled another NodeID than this node's")
	}
	hub.stop()
}

func TestMaxFrame(t *testing.T) { overEach(t, testMaxFrame) }

func testMaxFrame(t *testing.T) {
	const limit = 4096
	event := func(size int) string { return `{"type":"n","payload":"` + strings.Repeat("x", size) + `"}` }
	hub := startHub(t, "-max-frame", fmt.Sprint(limit), "-stdin")

	t.Run("own limit", func(t *testing.T) {
		pub := start(t, "pub", "-max-frame", fmt.Sprint(limit), hub.addr)
		pub.write(event(limit/2), event(limit))
		pub.wantExit(2, "line 2: ", "the limit of the frame is")
	})
	t.Run("hub's limit", func(t *testing.T) {
		start(t, "pub", hub.addr, "n", `"`+strings.Repeat("x", limit)+`"`).wantExit(1, "protocol error")
	})
	t.Run("hub's limit with from", func(t *testing.T) {
		pub := start(t, "pub", hub.addr)
		pub.write(event(1), event(limit-50), event(2))
		pub.stdin.Close()
		pub.wantExit(1, "irohub: invalid", "the limit is 4096")
	})
	t.Run("hub's input", func(t *testing.T) {
		hub.write(event(limit), event(limit+lineSlack))
		hub.wantSaid("line 1: ")
		hub.wantSaid("line 2: ")
	})
	hub.stop()

	// A large event passes if all limits allow it.
	const large = 2 << 20
	hub = startHub(t, "-max-frame", fmt.Sprint(large), "-max-queue", fmt.Sprint(4*large), "-forward")
	sub := startSub(t, "-n", "1", "-max-frame", fmt.Sprint(large), hub.addr, "n")
	pub := start(t, "pub", "-max-frame", fmt.Sprint(large), hub.addr)
	pub.write(event(large - 200))
	pub.stdin.Close()
	pub.wantExit(0)
	if n := len(sub.event(0).Payload); n != large-200+2 {
		t.Errorf("a payload of %d bytes arrived, want %d", n, large-200+2)
	}
	sub.wantExit(0)
	hub.stop()
}

func TestTransports_DoNotMix(t *testing.T) { overEach(t, testTransportsDoNotMix) }

func testTransportsDoNotMix(t *testing.T) {
	if transportOf(t) == overIroh {
		return // a QUIC packet goes nowhere on a TCP port
	}
	hub := startHub(t)
	if hub.ticket != "" {
		t.Errorf("the hub prints a ticket: %s", hub.ticket)
	}
	start(t, "sub", "endpointabc", "n").wantExit(2, "only iroh has tickets")
	start(t, "pub", hub.node, "n").wantExit(2, "no address")
	start(t, "hub", "-relays", "n0").wantExit(2, "no relay servers")
	hub.stop()
}

// Without cgo, everything works except iroh.
func TestWithoutCgo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "irohub")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	with := func(p *process) *process { // starts the process with that program
		p.cmd.Path, p.cmd.Args[0] = program, program
		return p.run()
	}
	hub := with(newProcess(t, "hub", "-transport", overTLS, "-addr", "127.0.0.1:0", "-stdin")).ready()
	sub := with(newProcess(t, "sub", "-transport", overTLS, "-n", "1", hub.addr, "n"))
	sub.wantSaid("msg=subscribed")
	hub.write(`{"type":"n","payload":1}`)
	sub.wantEvent(0, "n", "1")
	sub.wantExit(0)
	with(newProcess(t, "pub", "-transport", overTLS, hub.addr, "n", "2")).wantExit(0)
	hub.wantEvent(1, "n", "2")
	hub.stop()
	with(newProcess(t, "hub")).wantExit(1, "CGO_ENABLED=1")
}
