// Package providertest is the suite that every provider passes, built in or
// custom. It checks the obligations of providers.Provider that need no server:
// a valid and stable schema, strict decoding, complete answers, silence about
// secrets. Only tests import it.
package providertest
