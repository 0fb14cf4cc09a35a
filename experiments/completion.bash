# Completes settings and their choices behind `python -m experiments.run`: source experiments/completion.bash
_zeroq_complete() {
    [[ $COMP_LINE == *"-m experiments.run "* ]] || return
    local word=${COMP_WORDS[COMP_CWORD]} choices
    local group=${word%%=*}
    if [[ $word == *=* && -d conf/$group ]]; then
        # Hydra does not complete choices in folders, such as model=fashion/resnet18.
        choices=$(cd "conf/$group" && find . -name '*.yaml' | sed -e 's|^\./||' -e 's|\.yaml$||' -e "s|^|$group=|")
    else
        # Hydra answers for a line that begins with a script.
        choices=$(COMP_LINE="python run.py ${COMP_LINE#*-m experiments.run }" \
            "${COMP_WORDS[0]}" -m experiments.run -sc query=bash)
    fi
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
complete -o nospace -o default -F _zeroq_complete python python3 .venv/bin/python
