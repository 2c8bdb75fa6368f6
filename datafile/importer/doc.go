// Package importer carries data files into the stores and back.
//
// A parsed [datafile.File] flows into [Importer.Plan], which reads the present
// state, resolves references and "$ENV:" values, checks everything, and merges
// file and store into a [Plan] that people can read. [Importer.Apply] carries a
// plan out: secrets first, each connector's whole map to a new path, then one
// transaction over all tenants of the file. [Importer.Export] is the way back.
//
// The package imports connector, datafile, providers, tenant, vault and
// internal packages. It knows no particular store and no HTTP; where files and
// variables come from is given to it.
package importer
