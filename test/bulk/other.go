package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/peer"
)

// otherClients is how many clients fill another server at once: R4 has no import,
// and one client alone would leave most servers idle.
const otherClients = 4

// other prints what another server takes for the same resources: written by
// batches of PUT, and exported with $export where it offers that.
func (b *bench) other(ctx context.Context, w io.Writer, folder string, n int) error {
	server := peer.At(b.against, b.header)
	parts, err := partsOf(folder)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := server.Fill(ctx, parts, otherClients); err != nil {
		return fmt.Errorf("other: %w", err)
	}
	if err := otherLine(w, "other, batches of PUT", n, time.Since(began)); err != nil {
		return err
	}
	took, exported, err := server.Export(ctx)
	if errors.Is(err, peer.ErrNoExport) {
		_, err = fmt.Fprintf(w, "other, %v\t\t\t\t\t\t\t\t\n", err)
		return err
	}
	if err != nil {
		return err
	}
	return otherLine(w, "other, $export", exported, took)
}

func otherLine(w io.Writer, name string, n int, took time.Duration) error {
	_, err := fmt.Fprintf(w, "%s\t%d\t%.2f\t%.0f\t\t\t\t\t\n", name, n, took.Seconds(), float64(n)/took.Seconds())
	return err
}

// partsOf gives the files of a folder.
func partsOf(folder string) (parts []synthea.Part, err error) {
	files, err := os.ReadDir(folder)
	for _, f := range files {
		name := filepath.Join(folder, f.Name())
		parts = append(parts, synthea.Part{Name: f.Name(), Open: func(context.Context) (io.ReadCloser, error) { return os.Open(name) }})
	}
	return parts, err
}
