// lib/pq through database/sql: its pool, transactions, prepared statements, COPY, LISTEN, contexts.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/lib/pq"
)

func check(ok bool, what string, values ...interface{}) {
	if !ok {
		fmt.Println("not ok", what, values)
		os.Exit(1)
	}
	fmt.Println("ok", what)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func open(options string) *sql.DB {
	db, err := sql.Open("postgres", "sslmode=disable "+options) // the rest is in PGHOST and so on
	must(err)
	return db
}

func run(db *sql.DB, statement string, arguments ...interface{}) {
	_, err := db.Exec(statement, arguments...)
	must(err)
}

func number(row *sql.Row) (found int) {
	must(row.Scan(&found))
	return
}

func state(err error) string {
	var refused *pq.Error
	if errors.As(err, &refused) {
		return string(refused.Code)
	}
	return fmt.Sprint(err)
}

func values(db *sql.DB) {
	var whole int64
	var text string
	var bytes []byte
	var moment time.Time
	var list []int64
	var missing sql.NullString
	row := db.QueryRow("SELECT $1::bigint, $2::text, $3::bytea, $4::timestamptz, $5::int[], $6::text",
		int64(1)<<40, "żółw 'x' \\", []byte{0, 255, 10}, time.Unix(1e9, 0), pq.Array([]int64{1, 2}), nil)
	must(row.Scan(&whole, &text, &bytes, &moment, pq.Array(&list), &missing))
	check(whole == 1<<40 && text == "żółw 'x' \\" && len(bytes) == 3 && bytes[1] == 255, "values")
	check(moment.Unix() == 1e9 && len(list) == 2 && list[1] == 2 && !missing.Valid, "more values")
}

func writes(db *sql.DB) {
	run(db, "CREATE TABLE goods (id serial PRIMARY KEY, n int NOT NULL, UNIQUE (n))")
	for n := 0; n < 10; n++ {
		id := number(db.QueryRow("INSERT INTO goods (n) VALUES ($1) RETURNING id", n))
		check(id == n+1, "RETURNING", id)
	}
	_, err := db.Exec("INSERT INTO goods (n) VALUES ($1)", 3)
	check(state(err) == "23505", "unique", err)
	_, err = db.Query("SELEC 1")
	check(state(err) == "42601", "syntax", err)
	done, err := db.Exec("UPDATE goods SET n = n + 100 WHERE n >= $1", 5)
	must(err)
	changed, _ := done.RowsAffected()
	check(changed == 5, "rows affected", changed)
}

func transactions(db *sql.DB) {
	tx, err := db.Begin()
	must(err)
	_, err = tx.Exec("INSERT INTO goods (n) VALUES (1000)")
	must(err)
	check(number(tx.QueryRow("SELECT count(*) FROM goods")) == 11, "own write in a transaction")
	must(tx.Rollback())
	tx, err = db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(err)
	check(number(tx.QueryRow("SELECT count(*) FROM goods")) == 10, "after a rollback")
	_, err = tx.Exec("DELETE FROM goods")
	check(state(err) == "25006", "read only", err)
	must(tx.Rollback())
}

func copied(db *sql.DB) {
	run(db, "CREATE TABLE copied (id int, word text)")
	tx, err := db.Begin()
	must(err)
	statement, err := tx.Prepare(pq.CopyIn("copied", "id", "word"))
	must(err)
	for n := 0; n < 5000; n++ {
		_, err = statement.Exec(n, fmt.Sprint("word\t", n))
		must(err)
	}
	_, err = statement.Exec()
	must(err)
	must(statement.Close())
	check(number(tx.QueryRow("SELECT count(*) FROM copied WHERE word = 'word' || chr(9) || id")) == 5000, "COPY")
	must(tx.Commit())
}

func cancelled(db *sql.DB) {
	ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	_, err := db.ExecContext(ctx, "SELECT pg_sleep(60)")
	check(err != nil, "a context's end cancels", err)
	check(number(db.QueryRow("SELECT 7")) == 7, "after a cancel")
}

func notified(db *sql.DB) {
	listener := pq.NewListener("sslmode=disable", time.Second, time.Minute, nil)
	must(listener.Listen("go_news"))
	for n := 0; n < 3; n++ {
		run(db, "SELECT pg_notify('go_news', $1)", fmt.Sprint(n))
	}
	for n := 0; n < 3; n++ {
		select {
		case news := <-listener.Notify:
			check(news != nil && news.Extra == fmt.Sprint(n), "notification", news)
		case <-time.After(20 * time.Second):
			check(false, "a notification came")
		}
	}
	must(listener.Close())
}

// Each goroutine prepares on connections of the pool and sees its own values only.
func crowd(options string) {
	db := open(options)
	defer db.Close()
	db.SetMaxOpenConns(10)
	var group sync.WaitGroup
	for worker := 0; worker < 20; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			statement, err := db.Prepare(fmt.Sprintf("SELECT %d + $1::int", worker%4*1000))
			must(err)
			defer statement.Close()
			for n := 0; n < 50; n++ {
				if found := number(statement.QueryRow(n)); found != worker%4*1000+n {
					panic(fmt.Sprint("worker ", worker, " got ", found))
				}
			}
		}(worker)
	}
	group.Wait()
	check(true, "a crowd", options)
}

func settings() {
	db := open("search_path=pg_catalog statement_timeout=4321 application_name=gopher")
	defer db.Close()
	var path, limit, name string
	must(db.QueryRow("SELECT current_setting('search_path'), current_setting('statement_timeout'), "+
		"current_setting('application_name')").Scan(&path, &limit, &name))
	check(path == "pg_catalog" && limit == "4321ms" && name == "gopher", "start-up settings", path, limit, name)
}

func main() {
	db := open("")
	db.SetMaxOpenConns(1) // what one connection writes it must read
	values(db)
	writes(db)
	transactions(db)
	copied(db)
	cancelled(db)
	notified(db)
	settings()
	crowd("")
	crowd("binary_parameters=yes") // an unnamed statement in one packet
	must(db.Close())
	fmt.Println("done")
}
