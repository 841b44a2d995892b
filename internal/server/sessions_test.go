package server

import (
	"testing"
	"time"
)

func TestDoubtIsBornWithPatience(t *testing.T) {
	var d doubt
	now := time.Unix(1e9, 0)
	if d.over(now) {
		t.Error("there is no doubt yet")
	}
	d.note(false, now)
	d.note(false, now.Add(storeGrace)) // it does not begin again
	if d.over(now.Add(storeGrace)) || !d.over(now.Add(storeGrace+1)) {
		t.Error("the grace is another one")
	}
	d.note(true, now.Add(time.Minute))
	if d.over(now.Add(time.Hour)) {
		t.Error("an answer does not end the doubt")
	}
}
