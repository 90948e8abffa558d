package iam

// condition is one key under one operator.
type condition struct {
	op       operator
	key      keyRef
	operands []operand
}

// holds judges the condition (IAM User Guide, "Conditions with multiple context
// keys or values" and "Single-valued vs. multivalued context keys"):
//
//	key missing    true for IfExists, negated operators and ForAllValues, else false
//	one value      some operand matches it; negated: none does
//	ForAnyValue    that is so of at least one value of the request
//	ForAllValues   that is so of every value of the request
func (c *condition) holds(e *environment) bool {
	values := c.key.get(e)
	switch {
	case c.op.null:
		match, _ := c.some(absence(values), e)
		return match
	case len(values) == 0:
		return c.missing()
	}
	for _, v := range values {
		switch fits := c.fits(v, e); {
		case fits && c.op.set == anyValue:
			return true
		case !fits && c.op.set != anyValue:
			return false
		}
	}
	return c.op.set != anyValue
}

// absence is what Null compares with.
func absence(values []string) string {
	if len(values) == 0 {
		return "true"
	}
	return "false"
}

func (c *condition) missing() bool {
	switch {
	case c.op.ifExists || c.op.set == allValues:
		return true
	case c.op.set == anyValue:
		return false
	}
	return c.op.negated
}

// fits judges one value of the request. Where a policy variable has no value, an
// allowing statement is in doubt and does not hold; a denying one that is
// negated does.
func (c *condition) fits(value string, e *environment) bool {
	match, resolved := c.some(value, e)
	if !c.op.negated || match {
		return match != c.op.negated
	}
	return resolved || e.denying
}

// some reports whether an operand matches; resolved is false where none does and
// one could not be said.
func (c *condition) some(value string, e *environment) (match, resolved bool) {
	resolved = true
	for _, o := range c.operands {
		m, ok := o.matches(value, e)
		if m {
			return true, true
		}
		resolved = resolved && ok
	}
	return false, resolved
}
