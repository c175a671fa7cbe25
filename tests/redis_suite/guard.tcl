# Loaded after the procedures of Redis's own test_helper.tcl. It runs units in this one process, guards every test and
# every statement between tests on its own, and prints one machine-readable line for each outcome:
#   ZT <status> <name as hex> <milliseconds> <details as hex>
# Statuses: begin ok err ignore skip outside done.

proc zt_report {status name {elapsed 0} {details {}}} {
    set hex [list]
    foreach text [list $name $details] {
        binary scan [encoding convertto utf-8 $text] H* digits
        # Not by expr: it would read digits like 54e5454 as a number.
        if {$digits eq {}} {set digits "-"}
        lappend hex $digits
    }
    puts "ZT $status [lindex $hex 0] $elapsed [lindex $hex 1]"
    flush stdout
}

# Helpers of the suite report through this; only what says something about a test matters here.
proc send_data_packet {fd status data {elapsed 0}} {
    if {$status in {ignore skip err}} {
        zt_report $status $data $elapsed
    }
}

# The statements of a script, as a list: lines are joined until Tcl calls them complete.
proc zt_statements script {
    set statements {}
    set pending {}
    foreach line [split $script "\n"] {
        if {$pending eq {}} {
            set trimmed [string trim $line]
            if {$trimmed eq {} || [string index $trimmed 0] eq "#"} continue
        }
        append pending $line "\n"
        if {[info complete $pending] && ![regexp {(^|[^\\])(\\\\)*\\\n$} $pending]} {
            lappend statements $pending
            set pending {}
        }
    }
    if {$pending ne {}} {lappend statements $pending}
    return $statements
}

# Runs a script at an absolute stack level, statement by statement: one that fails is reported and the next one runs.
proc zt_run_block {level script} {
    foreach statement [zt_statements $script] {
        if {[catch {uplevel $level $statement} message options]} {
            set kind [dict get $options -code]
            if {$kind != 1} {return -options $options $message}
            set first [string trim [lindex [split [string trim $statement] "\n"] 0]]
            zt_report outside $first 0 "$message\n[dict get $options -errorinfo]"
            catch {reconnect}
        }
    }
}

proc tags {tags code} {
    set tags [string map { \" "" } $tags]
    set before $::tags
    set ::tags [concat $::tags $tags]
    if {[tags_acceptable $::tags reason]} {
        zt_run_block "#[expr {[info level] - 1}]" $code
    } else {
        zt_report ignore "tags $tags" 0 $reason
    }
    set ::tags $before
}

# Some units are run by the suite only on servers that it starts itself, though a running one does as well.
if {[info exists ::env(ZT_EXTERNAL_TOO)]} {
    rename tags_acceptable zt_tags_acceptable
    proc tags_acceptable {tags err_return} {
        upvar $err_return err
        return [zt_tags_acceptable [lsearch -all -inline -not -exact $tags external:skip] err]
    }
}

proc run_external_server_test {code overrides} {
    foreach parameter {aclfile user} {
        if {[dict exists $overrides $parameter]} {
            zt_report ignore "overrides $overrides" 0 "needs a server that was started with $parameter"
            return
        }
    }
    set client [redis $::host $::port 0 $::tls]
    if {!$::singledb} {$client select 9}
    set config [dict create port $::port]
    lappend ::servers [dict create host $::host port $::port client $client config $config]
    r flushall
    catch {r function flush}
    set saved {}
    foreach {parameter value} $overrides {
        catch {
            dict set saved $parameter [lindex [r config get $parameter] 1]
            r config set $parameter $value
        }
    }
    if {[dict exists $overrides requirepass]} {
        lset ::servers end [dict replace [lindex $::servers end] client [redis $::host $::port 0 $::tls]]
    }
    zt_run_block "#[expr {[info level] - 2}]" $code
    catch {reconnect}
    dict for {parameter value} $saved {
        # A password that is set is not shown; the first client came in before there was one.
        if {$parameter eq "requirepass"} {catch {$client config set requirepass ""}; continue}
        catch {r config set $parameter $value}
    }
    set last [lindex $::servers end]
    set ::servers [lrange $::servers 0 end-1]
    catch {[dict get $last client] close}
}

proc test {name code {okpattern undefined} {tags {}}} {
    if {[search_pattern_list $name $::skiptests]} {
        zt_report skip $name
        return
    }
    if {[llength $::only_tests] > 0 && ![search_pattern_list $name $::only_tests]} return
    if {![tags_acceptable [concat $::tags $tags] reason]} {
        zt_report ignore $name 0 $reason
        return
    }
    zt_report begin $name
    set previous $::cur_test
    set ::cur_test "$name in $::curfile"
    set started [clock milliseconds]
    catch {uplevel 1 $code} value options
    # "return", "break" and the like end the body of a test; only an error is one.
    set failed [expr {[dict get $options -code] == 1}]
    set elapsed [expr {[clock milliseconds] - $started}]
    if {$failed} {
        zt_report err $name $elapsed "$value\n[dict get $options -errorinfo]"
        catch {reconnect}
    } elseif {$okpattern eq "undefined" || $okpattern eq $value || [string match $okpattern $value]} {
        zt_report ok $name $elapsed
    } else {
        zt_report err $name $elapsed "Expected '$okpattern' to equal or match '$value'"
    }
    set ::cur_test $previous
}

proc zt_main {} {
    set ::test_server_fd stdout
    foreach unit $::single_tests {
        set ::curfile "tests/$unit.tcl"
        set channel [open $::curfile r]
        fconfigure $channel -encoding binary
        set script [read $channel]
        close $channel
        zt_run_block "#0" $script
        zt_report done $unit
    }
}
