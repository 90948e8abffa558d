package blackbox

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// smallDisk mounts a file system of so many bytes, for this test only.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Skipf("a small file system cannot be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return folder
}

// fillDisk writes a file until so many bytes are free.
func fillDisk(t *testing.T, name string, leave uint64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 64<<10)
	for {
		var free unix.Statfs_t
		if err := unix.Statfs(name, &free); err != nil {
			t.Fatal(err)
		}
		room := free.Bavail * uint64(free.Bsize)
		if room <= leave {
			return
		}
		if _, err := f.Write(piece[:min(uint64(len(piece)), room-leave)]); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// hungry takes every byte that is or becomes free until meanwhile is done, and gives
// all back.
func hungry(t *testing.T, name string, meanwhile func()) {
	t.Helper()
	var eater sync.WaitGroup
	full := make(chan struct{})
	eater.Go(func() {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for piece := make([]byte, 64<<10); ; {
			if _, err := f.Write(piece); err == nil {
				continue
			} else if !errors.Is(err, unix.ENOSPC) {
				t.Error(err)
				return
			}
			select {
			case <-full:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	defer func() {
		close(full)
		eater.Wait()
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}()
	meanwhile()
}

// makesSpace deletes a data store and purges the patient p0 of another.
func (d *datastore) makesSpace(other *datastore) {
	d.t.Helper()
	d.must(d.Control(d.t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
	d.await(d.id, "DELETED")
	other.fhir("POST", "/Patient/p0/$purge", `{"resourceType":"Parameters"}`).want(http.StatusAccepted)
	for deadline := time.Now().Add(patience); other.get("/Patient/p0").Status != http.StatusNotFound; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatal("what is purged below the floor stays")
		}
	}
}

// On a disk that fills up writes are refused with 507 and a clear word while
// reads go on; when space returns writes go on; and when others fill the disk to
// its last byte, even over a kill, nothing that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 96<<20)
	const floor = 16 << 20
	s := &server{t: t}
	s.begin(process.Options{Binary: tarn(t), Data: filepath.Join(disk, "data"), Flags: []string{"--min-free-mib", "16", "--ballast-mib", "4", "--key-file", filepath.Join(t.TempDir(), "ring")}})
	t.Cleanup(func() { s.must(s.Kill()) })
	d := s.store(nil)
	written, purged := 0, 0
	var mu sync.Mutex
	write := func() (int, string) {
		mu.Lock()
		id := fmt.Sprintf("p%d", written)
		mu.Unlock()
		r := d.fhir("PUT", "/Patient/"+id, fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, id))
		if r.Status == http.StatusCreated || r.Status == http.StatusOK {
			mu.Lock()
			defer mu.Unlock()
			written++
		}
		return r.Status, string(r.Body)
	}
	serves := func(when string) {
		t.Helper()
		if n := d.total("Patient") + purged; n < written || n > written+1 {
			t.Errorf("%s: %d patients, %d were acknowledged", when, n, written)
		}
		d.get("/Patient/p1").want(200)
	}
	until := func(what string, want int) string {
		t.Helper()
		var status int
		var body string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if status, body = write(); status == want || want == http.StatusCreated && status == http.StatusOK {
				return body
			}
		}
		t.Fatalf("%s: status %d: %s", what, status, body)
		return ""
	}
	for range 3 {
		until("on an empty disk", http.StatusCreated)
	}
	superfluous := s.store(nil)
	filler := filepath.Join(disk, "filler")

	fillDisk(t, filler, floor-1<<20)
	if body := until("below the floor", http.StatusInsufficientStorage); !strings.Contains(body, "disk") {
		t.Errorf("the refusal says %s", body)
	}
	serves("below the floor")
	superfluous.makesSpace(d)
	purged = 1
	s.must(os.Remove(filler))
	until("with space again", http.StatusCreated)

	// Others take every byte, that of the ballast too, and hold it for a while.
	hungry(t, filler, func() {
		until("while others take the disk", http.StatusInsufficientStorage)
		serves("while others take the disk")
	})
	until("after others took the disk", http.StatusCreated)
	serves("after others took the disk")

	// The same while writes are under way, and a kill.
	fillDisk(t, filler, 0)
	for range 50 {
		write()
	}
	serves("on a full disk")
	until("on a full disk", http.StatusInsufficientStorage)
	s.must(s.Kill())
	s.must(os.Remove(filler))
	s.restart()
	until("after a kill, with space again", http.StatusCreated)
	serves("after a kill")
	s.must(s.Stop())
	out := s.program(tarn(t), "check", "--data", s.Data, "--key-file", s.flag("--key-file"))
	if strings.Count(out, " 0 problems") != 2 {
		t.Errorf("tarn check: %s", out)
	}
	s.restart()
}
