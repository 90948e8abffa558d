package lsm

import "time"

// tuning is where a query turns from one way to another; all give the same
// answer. Tests set it low, so that small stores take every way.
type tuning struct {
	// scanProbe is how many index keys of a range are read to learn how large it
	// is. A larger one is read to its end only when that is cheaper than looking
	// at the rows that other conditions leave.
	scanProbe int
	// scanRows is how many rows may be looked at instead of reading a range of
	// unknown size.
	scanRows int64
	// joinProbe is how many resources at the other end of a join are gathered
	// without asking whether looking at rows would be cheaper.
	joinProbe int64
	// hasRowCost is how many sources of a Has are gathered in the time of testing
	// one row: references are read from sheets, a sheet at a time, while the test
	// of a row reads its header and the containers of what points to it.
	hasRowCost int64
	// hasKeptCost is the same where the references are kept as columns.
	hasKeptCost int64
	// selfShare is how many rows a Has may be asked about for each resource that
	// its sources point to, for the rows' hashes to be compared with these,
	// instead of pointers being followed.
	selfShare int64
	// walkFrom is from how many matches on a sort by a param walks its index and
	// looks which rows match, instead of looking up each match's values; it does so
	// when looking up all would take longer than to walk until a page is full. To
	// walk over one row takes walkCost times as long as to look one up that is kept.
	walkFrom, walkCost int64
	// ingestFrom is from how many puts on a piece of an import becomes tables at
	// once, instead of going through the log; importOps bounds a piece.
	ingestFrom, importOps int
	// spareRows is how many rows commits may take while a piece beside them is made
	// ready.
	spareRows uint64
	// sheetRows is how many rows a sheet of facts has; cutFrom and cutSpare say
	// when its values are cut (sheetWriter).
	sheetRows, cutFrom, cutSpare int
	// keptShift says how many rows a kept column is of at most, a power of two that
	// is no larger than 65,536 (a code's place among several has 16 bits). It is made
	// of keptStep rows more at a time, and of no fewer than keptLeast, when one in
	// keptPart of as many was looked up in facts: a row that is read for a column
	// costs a part of one that is looked up, as all rows of its sheet are read.
	keptShift           uint
	keptStep, keptLeast int
	keptPart            int
	// keptFew is how many values of a column are judged one after the other before rows
	// are looked at.
	keptFew uint16
	// settleAfter is how long nothing must be written before tables are put in order;
	// settleTables is how many small ones are put together, at least, and settleFrom
	// how many bytes.
	settleAfter  time.Duration
	settleTables int
	settleFrom   uint64
	// restFrom is how many bytes of the log are brought into tables then. Each such
	// flush makes tables that compactions write again together with others.
	restFrom uint64
	// restWithin bounds how long a store that is closed waits for that: a disk that is
	// so slow leaves the log as it is, and the next opening reads it.
	restWithin time.Duration
	// keptRowsFrom is how often a key or range is asked for before its rows are kept.
	keptRowsFrom int
}

func (t *tuning) sheets() sheetWriter { return sheetWriter{cutFrom: t.cutFrom, cutSpare: t.cutSpare} }

// usualTuning was set by measurement: engine.md, 5.4.
var usualTuning = tuning{
	scanProbe: 1024, scanRows: 16 << 10, joinProbe: 256, hasRowCost: 16, hasKeptCost: 512, selfShare: 2, walkFrom: 3000, walkCost: 50, ingestFrom: 128, importOps: importOps, spareRows: 64,
	sheetRows: 1024, cutFrom: 8, cutSpare: 8,
	keptShift: 15, keptStep: 8192, keptLeast: 256, keptPart: 64, keptFew: 64, keptRowsFrom: 3,
	settleAfter: 2 * time.Second, settleTables: 4, settleFrom: leastSettled, restFrom: 1 << 20, restWithin: 2 * time.Second,
}
