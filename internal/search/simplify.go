package search

import "github.com/tarn-fhir/tarn/internal/search/plan"

// never is the condition that nothing meets.
var never = plan.Or(nil)

func isFalse(n plan.Node) bool {
	or, ok := n.(plan.Or)
	return ok && len(or) == 0
}

// Simplify gives a condition of the same meaning in which And and Or are flat,
// have at least two members, and truth (nil) and falsehood (an empty Or) stand
// only at the top; hops that lead nowhere are false.
func Simplify(n plan.Node) plan.Node {
	switch n := n.(type) {
	case plan.And:
		return simplifyAnd(n)
	case plan.Or:
		return simplifyOr(n)
	case plan.Not:
		return simplifyNot(n)
	case plan.IDs:
		if len(n.IDs) == 0 {
			return never
		}
	case plan.Chain:
		if len(n.To) == 0 {
			return never
		}
	case plan.Has:
		if len(n.From) == 0 {
			return never
		}
	}
	return n
}

func simplifyAnd(n plan.And) plan.Node {
	var flat plan.And
	for _, child := range n {
		child = Simplify(child)
		switch inner, isAnd := child.(plan.And); {
		case child == nil:
		case isFalse(child):
			return never
		case isAnd:
			flat = append(flat, inner...)
		default:
			flat = append(flat, child)
		}
	}
	switch len(flat) {
	case 0:
		return nil
	case 1:
		return flat[0]
	}
	return flat
}

func simplifyOr(n plan.Or) plan.Node {
	flat := plan.Or{}
	for _, child := range n {
		child = Simplify(child)
		switch inner, isOr := child.(plan.Or); {
		case child == nil:
			return nil
		case isOr:
			flat = append(flat, inner...)
		default:
			flat = append(flat, child)
		}
	}
	switch len(flat) {
	case 0:
		return never
	case 1:
		return flat[0]
	}
	return flat
}

func simplifyNot(n plan.Not) plan.Node {
	of := Simplify(n.Of)
	switch inner, isNot := of.(plan.Not); {
	case of == nil:
		return never
	case isFalse(of):
		return nil
	case isNot:
		return inner.Of
	}
	return plan.Not{Of: of}
}
