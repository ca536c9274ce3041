// Package roughnet tests a hub and spokes over a bad network: lost and late packets, an outage,
// and an address that changes.
//
// The hub and the spokes are processes, each in its own network namespace. A goroutine of the
// test joins the namespaces: it reads IP packets from a TUN device in each and writes them to
// the other, or drops them. So the test needs neither tc nor the kernel's sch_netem, which many
// machines lack, and works the same on all of them. Namespaces and devices disappear when the
// processes end, for whatever reason.
package roughnet
