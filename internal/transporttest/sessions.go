package transporttest

import (
	"testing"

	"irohub"
	"irohub/internal/sessions"
)

// testSessions plays the scripts of docs/vectors/sessions.json, with two exceptions: scripts with
// several streams, if a connection has only one, and scripts of the zero node, whose key no
// transport accepts.
func testSessions(e *env) {
	file := sessions.Load(e.T)
	oneStream := e.oneStream()
	play := sessions.Again
	if oneStream { // over TCP, no code is lost
		play = func(_ *testing.T, play func(lossy bool)) { play(false) }
	}
	for _, script := range file.Hub {
		if script.ZeroNode() || oneStream && !script.OneStream() {
			continue
		}
		e.Run("Hub/"+script.Name, func(t *testing.T) {
			play(t, func(lossy bool) {
				sessions.PlayHub(t, failsafe(t), &script, lossy, func(bool) irohub.Endpoint { return e.transport(t, 0) })
			})
		})
	}
	for _, script := range file.Spoke {
		e.Run("Spoke/"+script.Name, func(t *testing.T) {
			play(t, func(lossy bool) {
				sessions.PlaySpoke(t, failsafe(t), &script, lossy, e.transport(t, 0), e.transport(t, 0))
			})
		})
	}
}
