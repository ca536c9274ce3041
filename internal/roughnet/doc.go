// Package roughnet tests a hub and spokes over a bad network: packets that are lost and
// late, an outage, and an address that changes.
//
// Hub and spokes are processes in network namespaces of their own, and what joins these is a
// goroutine of the test, which reads IP packets from a TUN device in each and passes them on
// to the other, or does not: so it needs neither tc nor the kernel's sch_netem, which many
// machines lack, and does the same on all of them. Namespaces and devices go with the
// processes that hold them, whatever ends these.
package roughnet
