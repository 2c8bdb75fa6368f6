package smtp

import (
	"bufio"
	"errors"
	"strconv"
	"strings"
)

// What one reply may take. RFC 4954 section 4 has the longest lines: 12288
// octets for a challenge. The longest EHLO answers have some dozens of lines.
const (
	lineLimit  = 16 << 10
	replyLimit = 64 << 10
)

var (
	errNotSMTP  = errors.New("this is no SMTP reply")
	errTooLarge = errors.New("a reply is larger than any should be")
)

// reply is a server's answer to a command, RFC 5321 section 4.2.
type reply struct {
	code  int      // 200 to 599
	lines []string // the texts, without codes; at least one
}

// readReply reads one reply. r's buffer has lineLimit bytes. Errors: errNotSMTP,
// errTooLarge, and those of reading.
func readReply(r *bufio.Reader) (reply, error) {
	var out reply
	size := 0
	for {
		raw, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return reply{}, errTooLarge
		}
		if err != nil {
			return reply{}, err
		}
		if size += len(raw); size > replyLimit {
			return reply{}, errTooLarge
		}
		line := strings.TrimRight(string(raw), "\r\n")
		code, last, text, ok := cutReply(line)
		// The code is the same on every line; servers that differ are none.
		if !ok || out.code != 0 && code != out.code {
			return reply{}, errNotSMTP
		}
		out.code = code
		out.lines = append(out.lines, text)
		if last {
			return out, nil
		}
	}
}

// cutReply takes "250-SIZE 1000" apart.
func cutReply(line string) (code int, last bool, text string, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, false, "", false
	}
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return 0, false, "", false
		}
		code = 10*code + int(line[i]-'0')
	}
	switch {
	case len(line) == 3: // section 4.2.1 wants a space; some leave it out
		return code, true, "", true
	case line[3] == ' ':
		return code, true, line[4:], true
	case line[3] == '-':
		return code, false, line[4:], true
	}
	return 0, false, "", false
}

// class is the first digit.
func (r reply) class() int { return r.code / 100 }

// text is the whole reply in one line, with its code.
func (r reply) text() string { return strconv.Itoa(r.code) + " " + strings.Join(r.lines, " ") }

// says tells whether the text contains one of the words, in any case.
func (r reply) says(words ...string) bool {
	text := strings.ToLower(strings.Join(r.lines, " "))
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// extensions are the keywords of an EHLO answer with their parameters.
func (r reply) extensions() map[string]string {
	ext := map[string]string{}
	for _, line := range r.lines[1:] {
		name, params, _ := strings.Cut(line, " ")
		name = strings.ToUpper(name)
		// The form of a draft of RFC 2554 that old clients need and some servers
		// therefore send beside, or instead of, the real one.
		if rest, ok := strings.CutPrefix(name, "AUTH="); ok {
			name, params = "AUTH", rest+" "+params
		}
		if name == "AUTH" {
			params = strings.TrimSpace(ext[name] + " " + strings.ToUpper(params))
		}
		ext[name] = params
	}
	return ext
}
