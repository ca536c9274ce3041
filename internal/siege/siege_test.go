package siege_test

import (
	"testing"

	"irohub/internal/siege"
)

func TestMain(m *testing.M) { siege.Main(m) }

func TestAccept_StalledHandshakesAndAGoodPeer(t *testing.T) {
	siege.TestAccept_StalledHandshakesAndAGoodPeer(t)
}
func TestAccept_NewcomersEvictNobodyElse(t *testing.T) { siege.TestAccept_NewcomersEvictNobodyElse(t) }
func BenchmarkFlood(b *testing.B)                      { siege.BenchmarkFlood(b) }
func BenchmarkFrozen(b *testing.B)                     { siege.BenchmarkFrozen(b) }
func BenchmarkDearest(b *testing.B)                    { siege.BenchmarkDearest(b) }
func TestFlood_TakesNothingFromOthers(t *testing.T)    { siege.TestFlood_TakesNothingFromOthers(t) }
func TestFlood_SubscriptionChurnLeavesNothing(t *testing.T) {
	siege.TestFlood_SubscriptionChurnLeavesNothing(t)
}
func TestFrames_Lengths(t *testing.T) { siege.TestFrames_Lengths(t) }
func TestFrames_AnnouncedBytesAreNotAllocated(t *testing.T) {
	siege.TestFrames_AnnouncedBytesAreNotAllocated(t)
}
func TestFrames_OneByteAtATime(t *testing.T)         { siege.TestFrames_OneByteAtATime(t) }
func TestFrames_HalfAFrameAndSilence(t *testing.T)   { siege.TestFrames_HalfAFrameAndSilence(t) }
func TestFrames_ThousandsOfTinyOnes(t *testing.T)    { siege.TestFrames_ThousandsOfTinyOnes(t) }
func TestLedger_IsThatOfTheDocument(t *testing.T)    { siege.TestLedger_IsThatOfTheDocument(t) }
func TestRace_EndedFromOutside(t *testing.T)         { siege.TestRace_EndedFromOutside(t) }
func TestRace_EndedFromWithinACallback(t *testing.T) { siege.TestRace_EndedFromWithinACallback(t) }
func TestRace_SpokeEndedFromWithinItsCallback(t *testing.T) {
	siege.TestRace_SpokeEndedFromWithinItsCallback(t)
}
