package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The size of the linearizability check: its cost grows with what happens at
// the same time.
const (
	linearClients = 5
	linearKeys    = 3
	linearOps     = 60
	linearTime    = 20 * time.Second // for the checker, which gives up then
)

// registerCall is what a client asks of a register: one resource.
type registerCall struct {
	kind registerKind
	key  int
	body string
	at   uint64 // for a guarded write
}

type registerKind uint8

const (
	readRegister    registerKind = iota
	writeRegister                // a put
	guardedRegister              // a put at a version
	deleteRegister               // a deletion
	createRegister               // a put where nothing current is
)

// registerState is a register, and also what a call gave back.
type registerState struct {
	version uint64 // 0: never written
	deleted bool
	body    string
	unmet   bool // answers only: the precondition failed; version and deleted are Unmet's
}

// registers is the sequential meaning of a resource: what commits and reads of
// one key do when they come one after the other.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make([][]porcupine.Operation, linearKeys)
		for _, op := range history {
			key := op.Input.(registerCall).key
			byKey[key] = append(byKey[key], op)
		}
		return byKey
	},
	Init: func() any { return registerState{} },
	Step: func(state, input, output any) (bool, any) {
		next, answer := stepRegister(state.(registerState), input.(registerCall))
		return answer == output.(registerState), next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// stepRegister gives the state after a call and the call's answer.
func stepRegister(s registerState, call registerCall) (next, answer registerState) {
	alive := s.version > 0 && !s.deleted
	written := registerState{version: s.version + 1, body: call.body}
	refused := registerState{version: s.version, deleted: s.deleted, unmet: true}
	switch call.kind {
	case readRegister:
		return s, s
	case guardedRegister:
		if !alive || s.version != call.at {
			return s, refused
		}
	case createRegister:
		if alive {
			return s, refused
		}
	case deleteRegister:
		if !alive {
			return s, registerState{version: s.version}
		}
		return registerState{version: s.version + 1, deleted: true}, registerState{version: s.version + 1}
	}
	return written, registerState{version: written.version}
}

// linearizable: commits and reads of a few keys by many clients look as if each
// had happened at one instant between call and return.
func linearizable(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	begin := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	together(t, linearClients, func(client int) error {
		random := rand.New(rand.NewPCG(uint64(client), 1))
		var last [linearKeys]uint64 // versions seen, so that guarded writes sometimes succeed
		for n := range linearOps {
			call := registerCall{kind: registerKind(random.IntN(5)), key: random.IntN(linearKeys), body: fmt.Sprintf("%d-%d", client, n)}
			call.at = last[call.key]
			from := time.Since(begin)
			answer, err := callRegister(t, s, call)
			to := time.Since(begin)
			if err != nil {
				return err
			}
			last[call.key] = answer.version
			mu.Lock()
			history = append(history, porcupine.Operation{ClientId: client, Input: call, Output: answer, Call: int64(from), Return: int64(to)})
			mu.Unlock()
		}
		return nil
	})
	switch porcupine.CheckOperationsTimeout(registers, history, linearTime) {
	case porcupine.Illegal:
		for _, op := range history {
			t.Logf("client %d, %d to %d: %s", op.ClientId, op.Call, op.Return, registers.DescribeOperation(op.Input, op.Output))
		}
		t.Error("the history is not linearizable")
	case porcupine.Unknown:
		t.Log("the checker ran out of time")
	}
}

func callRegister(t testing.TB, s store.Store, call registerCall) (registerState, error) {
	key := patient(fmt.Sprintf("register%d", call.key))
	if call.kind == readRegister {
		return readState(t, s, call.key)
	}
	op := putOp(key, call.body)
	switch call.kind {
	case guardedRegister:
		op.If = []store.Condition{{Kind: store.AtVersion, Version: call.at}}
	case createRegister:
		op.If = []store.Condition{{Kind: store.Absent}}
	case deleteRegister:
		op = store.Op{Kind: store.Delete, Key: key}
	}
	outcomes, err := s.Commit(testContext(t), []store.Op{op})
	if unmet, ok := errors.AsType[*store.Unmet](err); ok {
		return registerState{version: unmet.Current, deleted: unmet.Deleted, unmet: true}, nil
	}
	if err != nil {
		return registerState{}, err
	}
	return registerState{version: outcomes[0].Version}, nil
}

func readState(t testing.TB, s store.Store, register int) (registerState, error) {
	view, err := s.View(testContext(t), "")
	if err != nil {
		return registerState{}, err
	}
	defer view.Close()
	r, err := view.Get(testContext(t), patient(fmt.Sprintf("register%d", register)))
	if fault.Is(err, fault.NotFound) {
		return registerState{}, nil
	}
	return registerState{version: r.Version, deleted: r.Deleted, body: string(r.Body)}, err
}
