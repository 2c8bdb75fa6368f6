package providers

// Suggest returns the candidate that a mistyped name most likely means, "" when
// none is near.
func Suggest(name string, candidates []string) string { return suggest(name, candidates) }

// suggest returns the candidate nearest to name, "" when none is near: at most
// a third of its length apart, two edits at the most for short ones. Of equally
// near ones the first wins, so that candidates in a fixed order make it
// deterministic.
func suggest(name string, candidates []string) string {
	// Nobody types 64 characters by mistake, and the table is quadratic.
	if len(name) > 64 {
		return ""
	}
	best, bestDistance := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if d := editDistance(name, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is the optimal string alignment distance over bytes: a swap of
// neighbours counts as one edit, since that is how people mistype.
func editDistance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
