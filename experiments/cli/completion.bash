# Completes settings and their choices behind `python -m experiments.run`: source experiments/cli/completion.bash
_zeroq_complete() {
    [[ $COMP_LINE == *"-m experiments.run "* ]] || return
    local word=${COMP_WORDS[COMP_CWORD]} choices before=""
    local group=${word%%=*}
    if [[ $word == -* ]]; then
        choices="-m --list --help"
    elif [[ $word == *=* && -d conf/$group ]]; then
        # Behind a comma another choice follows. Hydra completes neither that nor choices in folders.
        [[ $word == *,* ]] && before=${word%,*},
        choices=$(cd "conf/$group" && find . -name '*.yaml' |
            sed -e 's|^\./||' -e 's|\.yaml$||' -e "s|^|${before:-$group=}|")
    else
        # Hydra answers for a line that begins with a script, and knows the value that a setting has. Words are as they
        # were typed: a space in the program's path has its backslash or its quotes.
        local program=${COMP_WORDS[0]//[\\\"\']/}
        choices=$(COMP_LINE="python run.py ${COMP_LINE#*-m experiments.run }" \
            "$program" -m experiments.run -sc query=bash)
        choices=$(sed -E -e 's/([^ ]*=)(true|false)/\1true \1false/g' <<< "$choices")
    fi
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
complete -o nospace -o default -F _zeroq_complete python python3 .venv/bin/python
