package blackbox

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// backupInfo is BackupStatusInfo.
type backupInfo struct {
	Configuration                                                                             struct{ Status, BackupType string }
	BackupEnabledAt, EarliestRestorePoint, LatestRestorePoint, ScheduledPermanentDeletionTime float64
}

func (s *server) backupInfo(id string) backupInfo {
	s.t.Helper()
	var answer struct {
		DatastoreProperties struct{ BackupStatusInfo backupInfo }
	}
	s.must(s.Control(s.t.Context(), "DescribeFHIRDatastore", map[string]any{"DatastoreId": id}, &answer))
	return answer.DatastoreProperties.BackupStatusInfo
}

// restored makes a store of a backup by RestoreFHIRDatastore; at 0 is the latest.
func (s *server) restored(source string, at float64, members map[string]any) *datastore {
	s.t.Helper()
	point := map[string]any{}
	if at > 0 {
		point["RestorePointTime"] = at
	}
	in := map[string]any{"SourceDatastoreId": source, "RestoreConfiguration": map[string]any{"ContinuousBackupRestoreConfiguration": point}}
	for k, v := range members {
		in[k] = v
	}
	var made process.Datastore
	s.must(s.Control(s.t.Context(), "RestoreFHIRDatastore", in, &made))
	if made.DatastoreStatus != "CREATING" {
		s.t.Errorf("a restore answers with %+v", made)
	}
	s.await(made.DatastoreID, "ACTIVE")
	return &datastore{server: s, id: made.DatastoreID}
}

// put writes a version and gives when it became current, in seconds: in a later
// millisecond than what was there before, so that a moment tells them apart.
func (d *datastore) put(body string, after float64) float64 {
	d.t.Helper()
	for float64(time.Now().UnixMilli())/1000 <= after {
		time.Sleep(time.Millisecond)
	}
	at, err := time.Parse(time.RFC3339Nano, d.fhir("PUT", "/Patient/p", body).text("meta", "lastUpdated"))
	d.must(err)
	return float64(at.UnixMilli()) / 1000
}

// A store with continuous backup is restored to a moment and to its latest, with
// its history, while it lives, after its deletion, and by another server that
// has nothing but the backups and the keyring.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	folder, ring := filepath.Join(t.TempDir(), "backups"), filepath.Join(t.TempDir(), "ring")
	flags := []string{"--backup-dir", folder, "--backup-every", "200ms", "--key-file", ring}
	s := start(t, flags...)
	d := s.store(map[string]any{"BackupConfiguration": map[string]any{"Status": "ENABLED", "RetentionPeriodInDays": 3, "BackupTagsEnabled": true},
		"Tags": []any{map[string]any{"Key": "team", "Value": "cardiology"}}})
	first := d.put(`{"resourceType":"Patient","id":"p","name":[{"family":"Backupsson"}]}`, 0)
	d.put(`{"resourceType":"Patient","id":"p","active":true}`, first)
	d.fhir("DELETE", "/Patient/p", nil).want(204)
	versions := int(d.get("/Patient/p/_history").want(200).number("total"))
	s.program(tarn(t), "backup", d.id, "--endpoint", s.url(), "--data", s.Data)
	info := s.backupInfo(d.id)
	if info.Configuration.BackupType != "CONTINUOUS" || info.EarliestRestorePoint > first || info.LatestRestorePoint < first || info.ScheduledPermanentDeletionTime != 0 {
		t.Fatalf("%+v, the first version is of %f", info, first)
	}

	then := s.restored(d.id, first, map[string]any{"DatastoreName": "then"})
	if p := then.get("/Patient/p").want(200); p.text("meta", "versionId") != "1" || p.text("name", 0, "family") != "Backupsson" {
		t.Errorf("then: %s", short(p.Body))
	}
	if then.total("Patient?family=backupsson") != 1 || then.total("Patient?active=true") != 0 {
		t.Error("the index of the restored store is not that of the moment")
	}
	var tags struct{ Tags []map[string]string }
	s.must(s.Control(t.Context(), "ListTagsForResource", map[string]any{"ResourceARN": s.mustDescribe(then.id).DatastoreArn}, &tags))
	if len(tags.Tags) != 1 || tags.Tags[0]["Value"] != "cardiology" {
		t.Errorf("tags: %v", tags)
	}
	then.fhir("POST", "/Patient", `{"resourceType":"Patient"}`).want(201)
	d.fhir("PUT", "/Patient/q", `{"resourceType":"Patient","id":"q"}`).want(201) // after the last backup
	now := s.restored(d.id, 0, nil)
	now.get("/Patient/q").want(200)
	now.get("/Patient/p").want(410)
	if n := int(now.get("/Patient/p/_history").want(200).number("total")); n != versions {
		t.Errorf("%d versions were restored, there were %d", n, versions)
	}
	s.refuseRestores(d, first)

	s.must(s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
	s.await(d.id, "DELETED")
	if info = s.backupInfo(d.id); info.ScheduledPermanentDeletionTime < info.LatestRestorePoint+2*86400 {
		t.Errorf("deleted: %+v", info)
	}
	again := s.tarnOn("restore", d.id, "again", "--at", time.UnixMilli(int64(first*1000)).UTC().Format(time.RFC3339Nano))
	(&datastore{server: s, id: dig(again, "DatastoreId").(string)}).get("/Patient/p").want(200)
	s.must(s.Stop())
	if out := s.program(tarn(t), "check", "--data", s.Data, "--key-file", ring); strings.Count(out, " 0 problems") != 5 {
		t.Error(out)
	}
	sealedFolder(t, folder, "Backupsson")

	other := start(t, flags...)
	saved := other.restored(d.id, 0, nil)
	saved.get("/Patient/q").want(200)
	saved.get("/Patient/p/_history/1").want(200)
}

// Backups go to a real S3 server of others, a later one what changed only, and
// another server with nothing but them and the keyring restores from there. What
// was purged is in none that is kept after the next two.
func TestBackupToS3(t *testing.T) {
	t.Parallel()
	storage := startS3(t, false)
	storage.aws("mb", "s3://safe")
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("of somebody else"), 0o600); err != nil {
		t.Fatal(err)
	}
	storage.aws("cp", other, "s3://safe/of/another")
	ring := filepath.Join(t.TempDir(), "ring")
	begin := func() *server {
		s := &server{t: t}
		s.begin(process.Options{Binary: tarn(t), Data: filepath.Join(t.TempDir(), "data"), Env: storage.environment(),
			Flags: []string{"--key-file", ring, "--backup-dir", "s3://safe/of/tarn", "--backup-every", "1h"}})
		t.Cleanup(func() { s.must(s.Kill()) })
		return s
	}
	s := begin()
	d := s.store(nil)
	s.program(tarn(t), "datastore", "update", d.id, "--backup-days", "3", "--endpoint", s.url(), "--data", s.Data)
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p","name":[{"family":"Backupsson"}]}`).want(201)
	s.program(tarn(t), "backup", d.id, "--endpoint", s.url(), "--data", s.Data)
	first := len(storage.names("safe", "of/tarn/"+d.id+"/files/"))
	d.fhir("PUT", "/Patient/q", `{"resourceType":"Patient","id":"q"}`).want(201)
	s.program(tarn(t), "backup", d.id, "--endpoint", s.url(), "--data", s.Data)
	if moments := storage.names("safe", "of/tarn/"+d.id+"/moments/"); len(moments) != 2 || first < 4 {
		t.Errorf("%d files of the first backup, moments %v", first, moments)
	}
	second := begin()
	saved := second.restored(d.id, 0, nil)
	saved.get("/Patient/p").want(200)
	saved.get("/Patient/q").want(200)
	if saved.total("Patient?family=backupsson") != 1 {
		t.Error("the index was not restored")
	}
	s.program(tarn(t), "datastore", "update", d.id, "--backup-days", "0", "--endpoint", s.url(), "--data", s.Data)
	if left := storage.names("safe", "of/tarn/"); len(left) > 0 {
		t.Errorf("backup is off, and these are left: %v", left)
	}
}

// refuseRestores asks for what cannot be restored.
func (s *server) refuseRestores(d *datastore, first float64) {
	s.t.Helper()
	plain := s.store(nil)
	point := func(at float64) map[string]any {
		return map[string]any{"ContinuousBackupRestoreConfiguration": map[string]any{"RestorePointTime": at}}
	}
	for _, c := range []struct {
		in        map[string]any
		exception string
		says      string
	}{
		{map[string]any{"SourceDatastoreId": d.id, "RestoreConfiguration": point(first - 86400)}, "ValidationException", "EarliestRestorePoint"},
		{map[string]any{"SourceDatastoreId": d.id, "RestoreConfiguration": point(first + 86400)}, "ValidationException", "LatestRestorePoint"},
		{map[string]any{"SourceDatastoreId": d.id}, "ValidationException", "restoreConfiguration"},
		{map[string]any{"SourceDatastoreId": d.id, "RestoreConfiguration": map[string]any{}}, "ValidationException", "continuousBackupRestoreConfiguration"},
		{map[string]any{"RestoreConfiguration": point(first)}, "ValidationException", "sourceDatastoreId"},
		{map[string]any{"SourceDatastoreId": plain.id, "RestoreConfiguration": point(first)}, "ValidationException", "no backup"},
		{map[string]any{"SourceDatastoreId": strings.Repeat("0", 32), "RestoreConfiguration": point(first)}, "ResourceNotFoundException", ""},
	} {
		err := s.Control(s.t.Context(), "RestoreFHIRDatastore", c.in, &struct{}{})
		if err == nil || !strings.Contains(err.Error(), c.exception) || !strings.Contains(err.Error(), c.says) {
			s.t.Errorf("%v: %v", c.in, err)
		}
	}
	err := s.Control(s.t.Context(), "BackupDatastore", map[string]any{"DatastoreId": plain.id}, &struct{}{})
	if err == nil || !strings.Contains(err.Error(), "ValidationException") {
		s.t.Errorf("a backup of a store without: %v", err)
	}
}

// sealedFolder looks for a text in all files of a folder.
func sealedFolder(t *testing.T, folder, text string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(raw), bytes.ToLower([]byte(text))) {
			t.Errorf("%s holds %q", path, text)
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files, %v", files, err)
	}
}

// number is a member that is a number.
func (r *reply) number(path ...any) float64 {
	r.t.Helper()
	n, ok := r.at(path...).(json.Number)
	f, err := n.Float64()
	if !ok || err != nil {
		r.t.Fatalf("%s has no number at %v: %s", r.what, path, short(r.Body))
	}
	return f
}
