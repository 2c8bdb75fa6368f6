package providers

// KindInfo is a kind as `sidecar kinds --json` and the admin API list it. Its
// params hold secrets too, marked, in layout order; values are never part of it.
type KindInfo struct {
	*Schema
	Params []Field `json:"params"`
}

// Describe returns the kind as people and pages read it.
func (s *Schema) Describe() KindInfo { return KindInfo{Schema: s, Params: s.Fields()} }

// Describe lists all kinds, by kind; never nil.
func (r *Registry) Describe() []KindInfo {
	infos := make([]KindInfo, 0, len(r.kinds))
	for _, p := range r.kinds {
		infos = append(infos, p.Schema().Describe())
	}
	return infos
}
