package record

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

const sound = `{"block":"10.0.0.0/26","terms":[{"class":"","epoch":3,"writer":"w"},{"class":"x","epoch":7,"writer":"v","renewed":"2026-08-01T12:00:00Z"}],"allocations":[
	{"address":"10.0.0.1","pool":"lan","holders":[{"kind":"Service","namespace":"n","name":"a","uid":"u","class":"x","since":"2026-08-01T12:00:00Z"}]},
	{"address":"10.0.0.2","released":"2026-08-01T12:00:00Z","previous":[{"kind":"IPReservation","namespace":"n","name":"r","from":"2026-08-01T11:00:00Z","to":"2026-08-01T12:00:00Z"}]}]}`

func parse(t *testing.T, text string) *v1beta1.IPAllocationRecord {
	t.Helper()
	var o v1beta1.IPAllocationRecord
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestDecodeKeepsWhatIsSound(t *testing.T) {
	for _, tc := range []struct{ name, find, replace, fault string }{
		{"sound", "", "", ""},
		{"block", "10.0.0.0/26", "10.0.0.64/26", "must be 10.0.0.0/26"},
		{"address", `"10.0.0.2"`, `"10.0.0.64"`, "allocations[1]: address"},
		{"no address", `"10.0.0.2"`, `"?"`, "allocations[1]: address"},
		{"twice", `"10.0.0.2"`, `"10.0.0.1"`, "twice"},
		{"kind", "IPReservation", "Pod", "allocations[1]: previous[0]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := Decode(BlockOf(one), parse(t, strings.Replace(sound, tc.find, tc.replace, 1)))
			if (err != nil) != (tc.fault != "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("got %v, want %q", err, tc.fault)
			}
			if e, _ := b.Lookup(one); len(e.Holders) != 1 || e.Holders[0].UID != "u" || e.Pool != "lan" {
				t.Errorf("the sound entry reads %+v", e)
			}
			if mine, other := b.Term(""), b.Term("x"); mine != (Term{"", 3, "w", time.Time{}}) || other != (Term{"x", 7, "v", start}) {
				t.Errorf("terms %+v", b.Terms())
			}
			if b.Term("y") != (Term{Class: "y"}) {
				t.Errorf("a class that never wrote has the term %+v", b.Term("y"))
			}
		})
	}
}

// FuzzDecode: whatever stands there, what was read can be written and reads the same again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(`{"allocations":[{"address":"10.0.0.1","holders":[{"kind":"Service","namespace":"n","name":"a"},{"kind":"Service","namespace":"n","name":"a"}]}]}`))
	f.Add([]byte(`{"allocations":[{"address":"::ffff:10.0.0.1","released":"0001-01-01T00:00:00Z"},{"address":"10.0.0.1","released":"0001-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o v1beta1.IPAllocationRecord
		if json.Unmarshal(data, &o) != nil {
			t.Skip()
		}
		b, _ := Decode(BlockOf(one), &o)
		text, err := json.Marshal(b.Encode())
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(BlockOf(one), parse(t, string(text)))
		if err != nil || !reflect.DeepEqual(b, again) {
			t.Errorf("%s\nreads %+v\nand again %+v\n%v", text, b, again, err)
		}
	})
}
