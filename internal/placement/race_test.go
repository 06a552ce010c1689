//go:build race

package placement

func init() { raceDetector = true }
