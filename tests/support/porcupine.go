// Has porcupine (github.com/anishathalye/porcupine), a checker that is not ours, judge the histories that the tests
// append to the file named by ZATTREDIS_TEST_HISTORIES: standard input has one history a line, of one key, in the form
// of tests/support/linearizability.py, as_json. Prints how many are linearizable, are not, and were not decided within
// a minute each; ends with 1 if any is not. CONTRIBUTING says how to run it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"
)

type word struct {
	present bool
	text    string
}

type input struct {
	kind         string
	first, other word
}

type output struct {
	known bool
	reply word
}

func of(value interface{}) word {
	if value == nil {
		return word{}
	}
	return word{true, value.(string)}
}

func number(value int64) word { return word{true, strconv.FormatInt(value, 10)} }

func truth(value bool) word {
	if value {
		return number(1)
	}
	return number(0)
}

// step answers whether an operation may have had its reply in a state, and gives the state behind it.
func step(before, in, out interface{}) (bool, interface{}) {
	state, operation, answer := before.(word), in.(input), out.(output)
	fits := func(reply word) bool { return !answer.known || reply == answer.reply }
	switch operation.kind {
	case "read":
		return fits(state), state
	case "write":
		return true, operation.first
	case "increment":
		sum := int64(0)
		if state.present {
			value, err := strconv.ParseInt(state.text, 10, 64)
			if err != nil {
				return !answer.known, state
			}
			sum = value
		}
		by, _ := strconv.ParseInt(operation.first.text, 10, 64)
		return fits(number(sum + by)), number(sum + by)
	case "append":
		longer := word{true, state.text + operation.first.text}
		return fits(number(int64(len([]rune(longer.text))))), longer
	case "delete":
		return fits(truth(state.present)), word{}
	case "write_if_absent":
		if state.present {
			return fits(truth(false)), state
		}
		return fits(truth(true)), operation.first
	case "compare_and_set":
		if state == operation.first {
			return fits(truth(true)), operation.other
		}
		return fits(truth(false)), state
	}
	panic("what is " + operation.kind + "?")
}

func main() {
	model := porcupine.Model{
		Init:  func() interface{} { return word{} },
		Step:  step,
		Equal: func(one, other interface{}) bool { return one == other },
	}
	verdicts := map[porcupine.CheckResult]int{}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			break
		}
		var rows [][]interface{}
		if err := json.Unmarshal(line, &rows); err != nil {
			panic(err)
		}
		var history []porcupine.Operation
		for _, row := range rows {
			known, returned := row[6].(bool), int64(math.MaxInt64)
			if known {
				returned = int64(row[5].(float64))
			}
			history = append(history, porcupine.Operation{
				Input: input{row[0].(string), of(row[1]), of(row[2])}, Call: int64(row[4].(float64)),
				Output: output{known, of(row[3])}, Return: returned,
			})
		}
		verdict := porcupine.CheckOperationsTimeout(model, history, time.Minute)
		verdicts[verdict]++
		if verdict == porcupine.Illegal {
			fmt.Printf("line %d is not linearizable: %s", number, line)
		}
	}
	fmt.Printf("linearizable: %d, not linearizable: %d, not decided: %d\n",
		verdicts[porcupine.Ok], verdicts[porcupine.Illegal], verdicts[porcupine.Unknown])
	if verdicts[porcupine.Illegal] > 0 {
		os.Exit(1)
	}
}
