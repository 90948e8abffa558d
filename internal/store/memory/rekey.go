package memory

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

var _ store.Rekeyer = (*handle)(nil)

// Rekey implements store.Rekeyer: the key is only asked for at Open.
func (h *handle) Rekey(ctx context.Context, key seal.DataKey) error {
	const op = "memory.Rekey"
	if err := h.ready(ctx, op); err != nil {
		return err
	}
	if !key.Usable() {
		return fault.New(fault.Invalid, op, "no data key, or a wiped one")
	}
	h.rekey(key.Derive(verifierLabel))
	return nil
}

// Reseal implements store.Rekeyer: nothing is kept.
func (h *handle) Reseal(ctx context.Context) error { return h.ready(ctx, "memory.Reseal") }
