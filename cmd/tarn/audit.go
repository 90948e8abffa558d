package main

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"

	"github.com/tarn-fhir/tarn/internal/audit"
)

// auditFlags say where accesses and denials are recorded.
type auditFlags struct {
	AuditFile   string `help:"Append a record of every access and denial to this file, one JSON line each." placeholder:"FILE" env:"TARN_AUDIT_FILE"`
	AuditMaxMiB int64  `name:"audit-max-mib" help:"Begin the audit file anew when it has grown to so many MiB; 0: never." default:"100" env:"TARN_AUDIT_MAX_MIB"`
	AuditKeep   int    `help:"Full audit files kept; the oldest makes place." default:"100" env:"TARN_AUDIT_KEEP"`
}

// mib is how many bytes a MiB has, as a shift.
const mib = 20

// recorder opens the audit file, where one is asked for.
func (c *serveCommand) recorder(log *slog.Logger, closing *closers) (audit.Recorder, error) {
	if c.AuditFile == "" {
		return audit.Off{}, nil
	}
	if c.AuditMaxMiB < 0 || c.AuditMaxMiB > math.MaxInt64>>(mib+1) {
		return nil, fmt.Errorf("--audit-max-mib: %d is not a number of MiB", c.AuditMaxMiB)
	}
	if c.AuditMaxMiB > 0 && (c.AuditKeep < 1 || c.AuditKeep > audit.MaxKeep) {
		return nil, fmt.Errorf("--audit-keep: %d is not 1 to %d; --audit-max-mib 0 keeps everything in one file", c.AuditKeep, audit.MaxKeep)
	}
	file, err := audit.OpenFile(audit.FileOptions{Path: c.AuditFile, MaxBytes: c.AuditMaxMiB << mib, Keep: c.AuditKeep, Log: log})
	if err != nil {
		return nil, err
	}
	closing.add(file.Close)
	return audit.NewTrail(audit.TrailOptions{
		Out: file, Partition: partition, Region: c.Region, Account: c.Account, Random: rand.Reader, Log: log,
	}), nil
}
